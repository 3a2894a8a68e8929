# Raw file -> store: one job per recording or connectome, then an index of all recordings.
rule ingest_recording:
    input:
        flow.inputs("ingest_recording"),
    output:
        store=directory("stores/{folder}/{recording}.zarr"),
        nwb="stores/{folder}/{recording}.nwb",
        marker="stores/{folder}/{recording}.report.json",
    log:
        "logs/ingest_recording/{folder}/{recording}.log",
    benchmark:
        "benchmarks/ingest_recording/{folder}/{recording}.tsv"
    conda:
        "../../envs/neuropipe.yaml"
    threads: 1
    resources:
        mem_mb=flow.mem_mb("ingest_recording"),
        runtime=flow.minutes("ingest_recording"),
    params:
        source=flow.option("ingest_recording", "source"),
        others=flow.flag("ingest_recording", "inputs"),
        settings=flow.settings("ingest_recording"),
        files=flow.files("ingest_recording"),
        code=flow.code("ingest_recording"),
    shell:
        "python3 -m neuropipe step ingest --source {params.source:q} {params.others:q}"
        " --output {output.store:q} --settings {params.settings:q} --threads {threads} 2> {log:q}"


rule ingest_connectome:
    input:
        flow.inputs("ingest_connectome"),
    output:
        store=directory("stores/connectome/{connectome}.zarr"),
        marker="stores/connectome/{connectome}.report.json",
    log:
        "logs/ingest_connectome/{connectome}.log",
    conda:
        "../../envs/neuropipe.yaml"
    threads: 1
    resources:
        mem_mb=flow.mem_mb("ingest_connectome"),
        runtime=flow.minutes("ingest_connectome"),
    params:
        settings=flow.settings("ingest_connectome"),
        files=flow.files("ingest_connectome"),
        code=flow.code("ingest_connectome"),
    shell:
        "python3 -m neuropipe step connectome --output {output.store:q}"
        " --settings {params.settings:q} --threads {threads} 2> {log:q}"


rule ingest_index:
    input:
        flow.inputs("ingest_index"),
    output:
        "stores/dataset.json",
    log:
        "logs/ingest_index/all.log",
    localrule: True
    conda:
        "../../envs/neuropipe.yaml"
    params:
        settings=flow.settings("ingest_index"),
        code=flow.code("ingest_index"),
    shell:
        "python3 -m neuropipe step index --inputs {input:q} --output {output:q}"
        " --settings {params.settings:q} 2> {log:q}"
