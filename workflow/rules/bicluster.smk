# Bayesian bi-clustering: chain (one job per chain, resumes from its checkpoint) -> summary.
rule bicluster_chain:
    input:
        flow.inputs("bicluster_chain"),
    output:
        "work/{collection}/{analysis}/chain/chain-{chain}.nc",
    log:
        "logs/bicluster_chain/{collection}_{analysis}_chain-{chain}.log",
    benchmark:
        "benchmarks/bicluster_chain/{collection}_{analysis}_chain-{chain}.tsv"
    wildcard_constraints:
        analysis=flow.labels("bicluster"),
        chain=r"\d+",
    conda:
        "../../envs/neuropipe.yaml"
    threads: 1
    resources:
        mem_mb=flow.mem_mb("bicluster_chain"),
        runtime=flow.minutes("bicluster_chain"),
    params:
        source=flow.option("bicluster_chain", "input"),
        settings=flow.settings("bicluster_chain"),
        code=flow.code("bicluster_chain"),
    shell:
        "python3 -m neuropipe step bicluster chain --input {params.source:q}"
        " --key chain={wildcards.chain} --output {output:q} --settings {params.settings:q}"
        " --threads {threads} 2> {log:q}"


rule bicluster_summary:
    input:
        flow.inputs("bicluster_summary"),
    output:
        result="results/{collection}/{analysis}/result.nc",
        provenance="results/{collection}/{analysis}/provenance.json",
    log:
        "logs/bicluster_summary/{collection}_{analysis}.log",
    benchmark:
        "benchmarks/bicluster_summary/{collection}_{analysis}.tsv"
    wildcard_constraints:
        analysis=flow.labels("bicluster"),
    conda:
        "../../envs/neuropipe.yaml"
    threads: 1
    resources:
        mem_mb=flow.mem_mb("bicluster_summary"),
        runtime=flow.minutes("bicluster_summary"),
    params:
        source=flow.option("bicluster_summary", "input"),
        parts=flow.option("bicluster_summary", "parts"),
        settings=flow.settings("bicluster_summary"),
        code=flow.code("bicluster_summary"),
    shell:
        "python3 -m neuropipe step bicluster summary --input {params.source:q}"
        " --parts {params.parts:q} --output {output.result:q}"
        " --settings {params.settings:q} --threads {threads} 2> {log:q}"
