# From raw recordings to one report: config/config.yaml and config/recordings.tsv say what to do.
from pathlib import Path

from snakemake.utils import min_version

from neuropipe.config.load import read_yaml

min_version("9.27")
# Snakemake runs the code in templates; a configuration that is one is refused before it reads it.
if Path("config/config.yaml").is_file():
    read_yaml(Path("config/config.yaml"))


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
