"""What gemstream is deployed with: environments, images, schedules and the demo."""
