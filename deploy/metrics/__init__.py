"""What watches runs: Prometheus' settings and alerts, and Grafana's dashboard."""
