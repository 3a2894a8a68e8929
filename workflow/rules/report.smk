# Everything that exists -> one HTML page.
rule report_page:
    input:
        flow.inputs("report_page"),
    output:
        "report/index.html",
    log:
        "logs/report_page/all.log",
    conda:
        "../../envs/neuropipe.yaml"
    threads: 1
    resources:
        mem_mb=flow.mem_mb("report_page"),
        runtime=flow.minutes("report_page"),
    params:
        settings=flow.settings("report_page"),
        code=flow.code("report_page"),
    shell:
        "python3 -m neuropipe step report --output {output:q} --settings {params.settings:q}"
        " --threads {threads} 2> {log:q}"
