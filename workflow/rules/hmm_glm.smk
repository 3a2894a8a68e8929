# HMM-GLM states: fit (one job per number of states) -> summary.
rule hmm_glm_fit:
    input:
        flow.inputs("hmm_glm_fit"),
    output:
        "work/{collection}/{analysis}/fit/states-{states}.nc",
    log:
        "logs/hmm_glm_fit/{collection}_{analysis}_states-{states}.log",
    benchmark:
        "benchmarks/hmm_glm_fit/{collection}_{analysis}_states-{states}.tsv"
    wildcard_constraints:
        analysis=flow.labels("hmm_glm"),
        states=r"\d+",
    conda:
        "../../envs/neuropipe.yaml"
    threads: flow.threads("hmm_glm_fit")
    resources:
        mem_mb=flow.mem_mb("hmm_glm_fit"),
        runtime=flow.minutes("hmm_glm_fit"),
    params:
        source=flow.option("hmm_glm_fit", "input"),
        settings=flow.settings("hmm_glm_fit"),
        code=flow.code("hmm_glm_fit"),
    shell:
        "python3 -m neuropipe step hmm_glm fit --input {params.source:q}"
        " --key states={wildcards.states} --output {output:q}"
        " --settings {params.settings:q} --threads {threads} 2> {log:q}"


rule hmm_glm_summary:
    input:
        flow.inputs("hmm_glm_summary"),
    output:
        result="results/{collection}/{analysis}/result.nc",
        provenance="results/{collection}/{analysis}/provenance.json",
    log:
        "logs/hmm_glm_summary/{collection}_{analysis}.log",
    benchmark:
        "benchmarks/hmm_glm_summary/{collection}_{analysis}.tsv"
    wildcard_constraints:
        analysis=flow.labels("hmm_glm"),
    conda:
        "../../envs/neuropipe.yaml"
    threads: flow.threads("hmm_glm_summary")
    resources:
        mem_mb=flow.mem_mb("hmm_glm_summary"),
        runtime=flow.minutes("hmm_glm_summary"),
    params:
        source=flow.option("hmm_glm_summary", "input"),
        parts=flow.option("hmm_glm_summary", "parts"),
        settings=flow.settings("hmm_glm_summary"),
        code=flow.code("hmm_glm_summary"),
    shell:
        "python3 -m neuropipe step hmm_glm summary --input {params.source:q}"
        " --parts {params.parts:q} --output {output.result:q}"
        " --settings {params.settings:q} --threads {threads} 2> {log:q}"
