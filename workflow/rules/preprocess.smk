# Store -> preprocessed store: the whole chain of steps of one recording, then its quality figures.
rule preprocess_recording:
    input:
        flow.inputs("preprocess_recording"),
    output:
        store=directory("preprocessed/{recording}.zarr"),
        marker="preprocessed/{recording}.json",
    log:
        "logs/preprocess_recording/{recording}.log",
    benchmark:
        "benchmarks/preprocess_recording/{recording}.tsv"
    conda:
        "../../envs/neuropipe.yaml"
    threads: 1
    resources:
        mem_mb=flow.mem_mb("preprocess_recording"),
        runtime=flow.minutes("preprocess_recording"),
    params:
        source=flow.option("preprocess_recording", "input"),
        settings=flow.settings("preprocess_recording"),
        files=flow.files("preprocess_recording"),
        code=flow.code("preprocess_recording"),
    shell:
        "python3 -m neuropipe step preprocess --input {params.source:q} --output {output.store:q}"
        " --settings {params.settings:q} --threads {threads} 2> {log:q}"


rule recording_figures:
    input:
        flow.inputs("recording_figures"),
    output:
        directory("preprocessed/{recording}"),
    log:
        "logs/recording_figures/{recording}.log",
    conda:
        "../../envs/neuropipe.yaml"
    threads: 1
    resources:
        mem_mb=flow.mem_mb("recording_figures"),
        runtime=flow.minutes("recording_figures"),
    params:
        raw=flow.option("recording_figures", "raw"),
        processed=flow.flag("recording_figures", "processed"),
        settings=flow.settings("recording_figures"),
        code=flow.code("recording_figures"),
    shell:
        "python3 -m neuropipe step quality --raw {params.raw:q} {params.processed:q}"
        " --output {output:q} --settings {params.settings:q} --threads {threads} 2> {log:q}"
