# GP-VAE latents: fit (one job per number of latents and restart) -> summary.
rule gp_vae_fit:
    input:
        flow.inputs("gp_vae_fit"),
    output:
        "work/{collection}/{analysis}/fit/latents-{latents}_restart-{restart}.nc",
    log:
        "logs/gp_vae_fit/{collection}_{analysis}_latents-{latents}_restart-{restart}.log",
    benchmark:
        "benchmarks/gp_vae_fit/{collection}_{analysis}_latents-{latents}_restart-{restart}.tsv"
    wildcard_constraints:
        analysis=flow.labels("gp_vae"),
        latents=r"\d+",
        restart=r"\d+",
    conda:
        "../../envs/neuropipe.yaml"
    threads: 1
    resources:
        mem_mb=flow.mem_mb("gp_vae_fit"),
        runtime=flow.minutes("gp_vae_fit"),
    params:
        source=flow.option("gp_vae_fit", "input"),
        settings=flow.settings("gp_vae_fit"),
        code=flow.code("gp_vae_fit"),
    shell:
        "python3 -m neuropipe step gp_vae fit --input {params.source:q}"
        " --key latents={wildcards.latents} restart={wildcards.restart} --output {output:q}"
        " --settings {params.settings:q} --threads {threads} 2> {log:q}"


rule gp_vae_summary:
    input:
        flow.inputs("gp_vae_summary"),
    output:
        result="results/{collection}/{analysis}/result.nc",
        provenance="results/{collection}/{analysis}/provenance.json",
    log:
        "logs/gp_vae_summary/{collection}_{analysis}.log",
    benchmark:
        "benchmarks/gp_vae_summary/{collection}_{analysis}.tsv"
    wildcard_constraints:
        analysis=flow.labels("gp_vae"),
    conda:
        "../../envs/neuropipe.yaml"
    threads: 1
    resources:
        mem_mb=flow.mem_mb("gp_vae_summary"),
        runtime=flow.minutes("gp_vae_summary"),
    params:
        source=flow.option("gp_vae_summary", "input"),
        parts=flow.option("gp_vae_summary", "parts"),
        settings=flow.settings("gp_vae_summary"),
        code=flow.code("gp_vae_summary"),
    shell:
        "python3 -m neuropipe step gp_vae summary --input {params.source:q}"
        " --parts {params.parts:q} --output {output.result:q}"
        " --settings {params.settings:q} --threads {threads} 2> {log:q}"
