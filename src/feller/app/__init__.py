"""The application: workflows, commands, and the page in the browser."""
