# NTF connectomes: affinity -> rank (one job per rank) -> fit -> communities.
rule ntf_affinity:
    input:
        flow.inputs("ntf_affinity"),
    output:
        temp(directory("work/{collection}/{analysis}/affinity/all.zarr")),
    log:
        "logs/ntf_affinity/{collection}_{analysis}.log",
    benchmark:
        "benchmarks/ntf_affinity/{collection}_{analysis}.tsv"
    wildcard_constraints:
        analysis=flow.labels("ntf"),
    conda:
        "../../envs/neuropipe.yaml"
    threads: 1
    resources:
        mem_mb=flow.mem_mb("ntf_affinity"),
        runtime=flow.minutes("ntf_affinity"),
    params:
        source=flow.option("ntf_affinity", "input"),
        settings=flow.settings("ntf_affinity"),
        code=flow.code("ntf_affinity"),
    shell:
        "python3 -m neuropipe step ntf affinity --input {params.source:q} --output {output:q}"
        " --settings {params.settings:q} --threads {threads} 2> {log:q}"


rule ntf_rank:
    input:
        flow.inputs("ntf_rank"),
    output:
        temp("work/{collection}/{analysis}/rank/rank-{rank}.nc"),
    log:
        "logs/ntf_rank/{collection}_{analysis}_rank-{rank}.log",
    benchmark:
        "benchmarks/ntf_rank/{collection}_{analysis}_rank-{rank}.tsv"
    wildcard_constraints:
        analysis=flow.labels("ntf"),
        rank=r"\d+",
    conda:
        "../../envs/neuropipe.yaml"
    threads: 1
    resources:
        mem_mb=flow.mem_mb("ntf_rank"),
        runtime=flow.minutes("ntf_rank"),
    params:
        source=flow.option("ntf_rank", "input"),
        parts=flow.option("ntf_rank", "parts"),
        settings=flow.settings("ntf_rank"),
        code=flow.code("ntf_rank"),
    shell:
        "python3 -m neuropipe step ntf rank --input {params.source:q} --key rank={wildcards.rank}"
        " --parts {params.parts:q} --output {output:q} --settings {params.settings:q}"
        " --threads {threads} 2> {log:q}"


rule ntf_fit:
    input:
        flow.inputs("ntf_fit"),
    output:
        temp("work/{collection}/{analysis}/fit/all.nc"),
    log:
        "logs/ntf_fit/{collection}_{analysis}.log",
    benchmark:
        "benchmarks/ntf_fit/{collection}_{analysis}.tsv"
    wildcard_constraints:
        analysis=flow.labels("ntf"),
    conda:
        "../../envs/neuropipe.yaml"
    threads: 1
    resources:
        mem_mb=flow.mem_mb("ntf_fit"),
        runtime=flow.minutes("ntf_fit"),
    params:
        source=flow.option("ntf_fit", "input"),
        parts=flow.option("ntf_fit", "parts"),
        settings=flow.settings("ntf_fit"),
        code=flow.code("ntf_fit"),
    shell:
        "python3 -m neuropipe step ntf fit --input {params.source:q} --parts {params.parts:q}"
        " --output {output:q} --settings {params.settings:q} --threads {threads} 2> {log:q}"


rule ntf_communities:
    input:
        flow.inputs("ntf_communities"),
    output:
        result="results/{collection}/{analysis}/result.nc",
        provenance="results/{collection}/{analysis}/provenance.json",
    log:
        "logs/ntf_communities/{collection}_{analysis}.log",
    benchmark:
        "benchmarks/ntf_communities/{collection}_{analysis}.tsv"
    wildcard_constraints:
        analysis=flow.labels("ntf"),
    conda:
        "../../envs/neuropipe.yaml"
    threads: 1
    resources:
        mem_mb=flow.mem_mb("ntf_communities"),
        runtime=flow.minutes("ntf_communities"),
    params:
        source=flow.option("ntf_communities", "input"),
        parts=flow.option("ntf_communities", "parts"),
        settings=flow.settings("ntf_communities"),
        code=flow.code("ntf_communities"),
    shell:
        "python3 -m neuropipe step ntf communities --input {params.source:q}"
        " --parts {params.parts:q} --output {output.result:q}"
        " --settings {params.settings:q} --threads {threads} 2> {log:q}"
