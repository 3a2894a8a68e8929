# Representational analysis: rdm (one job per subject) -> summary.
rule trsa_rdm:
    input:
        flow.inputs("trsa_rdm"),
    output:
        temp("work/{collection}/{analysis}/rdm/subject-{subject}.nc"),
    log:
        "logs/trsa_rdm/{collection}_{analysis}_subject-{subject}.log",
    benchmark:
        "benchmarks/trsa_rdm/{collection}_{analysis}_subject-{subject}.tsv"
    wildcard_constraints:
        analysis=flow.labels("trsa"),
        subject="[A-Za-z0-9]+",
    conda:
        "../../envs/neuropipe.yaml"
    threads: 1
    resources:
        mem_mb=flow.mem_mb("trsa_rdm"),
        runtime=flow.minutes("trsa_rdm"),
    params:
        source=flow.option("trsa_rdm", "input"),
        settings=flow.settings("trsa_rdm"),
        files=flow.files("trsa_rdm"),
        code=flow.code("trsa_rdm"),
    shell:
        "python3 -m neuropipe step trsa rdm --input {params.source:q}"
        " --key subject={wildcards.subject} --output {output:q} --settings {params.settings:q}"
        " --threads {threads} 2> {log:q}"


rule trsa_summary:
    input:
        flow.inputs("trsa_summary"),
    output:
        result="results/{collection}/{analysis}/result.nc",
        provenance="results/{collection}/{analysis}/provenance.json",
    log:
        "logs/trsa_summary/{collection}_{analysis}.log",
    benchmark:
        "benchmarks/trsa_summary/{collection}_{analysis}.tsv"
    wildcard_constraints:
        analysis=flow.labels("trsa"),
    conda:
        "../../envs/neuropipe.yaml"
    threads: 1
    resources:
        mem_mb=flow.mem_mb("trsa_summary"),
        runtime=flow.minutes("trsa_summary"),
    params:
        source=flow.option("trsa_summary", "input"),
        parts=flow.option("trsa_summary", "parts"),
        settings=flow.settings("trsa_summary"),
        files=flow.files("trsa_summary"),
        code=flow.code("trsa_summary"),
    shell:
        "python3 -m neuropipe step trsa summary --input {params.source:q}"
        " --parts {params.parts:q} --output {output.result:q}"
        " --settings {params.settings:q} --threads {threads} 2> {log:q}"
