"""Control of generative processes: steering, fine-tuning, inverse problems, rewards, and Schrödinger bridges."""
