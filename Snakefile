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


localrules:
    all,
    stores,
    analyses,
    report,
    validate,


rule all:
    default_target: True
    input:
        flow.stores(),
        flow.results(),
        "report/index.html",


rule stores:
    input:
        flow.stores(),


rule analyses:
    input:
        flow.results(),


rule report:
    input:
        "report/index.html",


for name in flow.analysis_names():

    rule:
        name:
            name
        input:
            flow.results(name),
        localrule: True
