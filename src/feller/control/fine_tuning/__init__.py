"""Fine-tuning on a reward: Adjoint Matching, DRaFT, RAFT, policy gradient."""
