# From raw recordings to one report: config/config.yaml and config/recordings.tsv say what to do.
from snakemake.utils import min_version

min_version("9.27")


configfile: "config/config.yaml"


include: "workflow/rules/common.smk"
include: "workflow/rules/ingest.smk"
include: "workflow/rules/preprocess.smk"
include: "workflow/rules/analysis.smk"
include: "workflow/rules/report.smk"


for name in flow.staged_names():

    include: f"workflow/rules/{name}.smk"


rule all:
    default_target: True
    input:
        "report/index.html",
        flow.unreported(),
    localrule: True


rule stores:
    input:
        flow.stores(),
    localrule: True


rule analyses:
    input:
        flow.results(),
    localrule: True


rule report:
    input:
        "report/index.html",
    localrule: True


for name in flow.analysis_names():

    rule:
        name:
            name
        input:
            flow.results(name),
        localrule: True
