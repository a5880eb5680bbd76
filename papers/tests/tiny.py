"""Smallest budget of the CM3Leon reproduction."""

from feller_papers.cm3leon.setting import Setting

TINY = Setting(
    num_workers=1,
    seeds=(0,),
    num_head_creatures=12,
    num_tail_creatures=6,
    num_scenes=40,
    num_instructions=40,
    dials=(1, 2, 3),
    batch_size=4,
    steps=2,
    tuning_steps=2,
    retriever_steps=2,
    judge_steps=5,
    num_test_documents=4,
    num_test_instructions=16,
    num_images=4,
    guidance_weights=(1.0, 3.0),
    contrastive_ks=(1, 4),
    best_of=2,
    num_prompts=2,
)
