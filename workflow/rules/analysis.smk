# Stores -> input dataset -> result -> figures -> table, for every analysis.
rule analysis_assemble:
    input:
        flow.inputs("analysis_assemble"),
    output:
        "inputs/{collection}/{analysis}.nc",
    log:
        "logs/analysis_assemble/{collection}_{analysis}.log",
    conda:
        "../../envs/neuropipe.yaml"
    threads: 1
    resources:
        mem_mb=flow.mem_mb("analysis_assemble"),
        runtime=flow.minutes("analysis_assemble"),
    params:
        name=lambda wildcards: flow.study.run(wildcards.analysis).analysis.name,
        stores=flow.option("analysis_assemble", "inputs"),
        connectome=flow.flag("analysis_assemble", "connectome"),
        results=flow.flag("analysis_assemble", "results"),
        settings=flow.settings("analysis_assemble"),
        files=flow.files("analysis_assemble"),
        code=flow.code("analysis_assemble"),
    shell:
        "python3 -m neuropipe step assemble {params.name} --inputs {params.stores:q}"
        " {params.connectome:q} {params.results:q} --output {output:q}"
        " --settings {params.settings:q} --threads {threads} 2> {log:q}"


rule analysis_fit:
    input:
        flow.inputs("analysis_fit"),
    output:
        result="results/{collection}/{analysis}/result.nc",
        provenance="results/{collection}/{analysis}/provenance.json",
    log:
        "logs/analysis_fit/{collection}_{analysis}.log",
    benchmark:
        "benchmarks/analysis_fit/{collection}_{analysis}.tsv"
    wildcard_constraints:
        analysis=flow.single_labels(),
    conda:
        "../../envs/neuropipe.yaml"
    threads: flow.threads("analysis_fit")
    resources:
        mem_mb=flow.mem_mb("analysis_fit"),
        runtime=flow.minutes("analysis_fit"),
    params:
        source=flow.option("analysis_fit", "input"),
        name=lambda wildcards: flow.study.run(wildcards.analysis).analysis.name,
        settings=flow.settings("analysis_fit"),
        code=flow.code("analysis_fit"),
    shell:
        "python3 -m neuropipe step {params.name} fit --input {params.source:q}"
        " --output {output.result:q} --settings {params.settings:q} --threads {threads} 2> {log:q}"


for name in flow.analysis_names():

    rule:
        name:
            f"analysis_figures_{name}"
        input:
            flow.inputs(f"analysis_figures_{name}"),
        output:
            flow.figure_patterns(name)[:3],
            report(
                [path for path in flow.figure_patterns(name) if path.endswith(".svg")],
                category=flow.titles(name),
                subcategory="{collection}",
                labels={"analysis": "{analysis}"},
            ),
            [
                path
                for path in flow.figure_patterns(name)[3:]
                if not path.endswith(".svg")
            ],
        log:
            f"logs/analysis_figures_{name}/{{collection}}_{{analysis}}.log",
        wildcard_constraints:
            analysis=flow.labels(name),
        conda:
            "../../envs/neuropipe.yaml"
        threads: 1
        resources:
            mem_mb=flow.mem_mb(f"analysis_figures_{name}"),
            runtime=flow.minutes(f"analysis_figures_{name}"),
        params:
            source=flow.option(f"analysis_figures_{name}", "input"),
            truth=flow.flag(f"analysis_figures_{name}", "truth"),
            name=name,
            folder="results/{collection}/{analysis}",
            settings=flow.settings(f"analysis_figures_{name}"),
            code=flow.code(f"analysis_figures_{name}"),
        shell:
            "python3 -m neuropipe step figures {params.name} --input {params.source:q}"
            " {params.truth:q} --output {params.folder:q} --settings {params.settings:q} --threads {threads}"
            " 2> {log:q}"


rule analysis_table:
    input:
        flow.inputs("analysis_table"),
    output:
        "results/{analysis}/table.tsv",
    log:
        "logs/analysis_table/{analysis}.log",
    localrule: True
    conda:
        "../../envs/neuropipe.yaml"
    params:
        name=lambda wildcards: flow.study.run(wildcards.analysis).analysis.name,
        settings=flow.settings("analysis_table"),
        code=flow.code("analysis_table"),
    shell:
        "python3 -m neuropipe step table {params.name} --output {output:q}"
        " --settings {params.settings:q} 2> {log:q}"
