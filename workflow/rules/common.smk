# Helpers, wildcards and what happens after a failure; the logic is in neuropipe.workflow.
from neuropipe.workflow import Workflow, put_interpreter_first

put_interpreter_first()
flow = Workflow(config)


wildcard_constraints:
    folder=r"sub-[A-Za-z0-9]+(/ses-[A-Za-z0-9]+)?/(calcium|spikes|eeg|meg|ieeg|fmri)",
    recording=r"sub-[A-Za-z0-9]+(_[a-z]+-[A-Za-z0-9]+)*_(calcium|spikes|eeg|meg|ieeg|fmri)",
    collection=r"(sub|cohort)-[A-Za-z0-9]+(_[a-z]+-[A-Za-z0-9]+)*(_(calcium|spikes|eeg|meg|ieeg|fmri))?",
    analysis=r"[a-z][a-z0-9_]*",
    connectome=r"[A-Za-z0-9][A-Za-z0-9_-]*",


rule validate:
    log:
        "logs/validate/all.log",
    localrule: True
    conda:
        "../../envs/neuropipe.yaml"
    shell:
        "python3 -m neuropipe validate > {log} 2>&1"


onerror:
    shell("python3 -m neuropipe report --after-failure")
