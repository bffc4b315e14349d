"""The page of every command of ``thalamus``: see gateway.manual."""

from __future__ import annotations

from gateway.manual import Page

PAGES = {
    "": Page(
        "An OpenAI-compatible LLM gateway that perceives a prompt before it routes it.\n\n"
        "A request with model \"auto\" goes to the model that is predicted to serve it best "
        "within the\n"
        "limits of the caller. thalamus COMMAND --help tells more of each command.",
        {
            "thalamus demo": "a first run, with small models that are built in, on port 8080",
            "thalamus serve --config thalamus.yaml": "the gateway in front of your own models",
            'thalamus route "What is 17 * 24?"': "see a decision without asking any model",
            "source <(thalamus completion bash)": "completion in this shell",
        },
        ("README.md", "docs/guide.md", "docs/config.md"),
    ),
    "serve": Page(
        "Run the gateway until SIGTERM or Ctrl-C.\n\n"
        "SIGHUP reads the configuration again without losing a request. At SIGTERM streams get\n"
        "server.drain_s to end. The log is one JSON object a line on standard error.",
        {
            "thalamus serve": "by thalamus.yaml in this folder",
            "thalamus serve --config /etc/thalamus/thalamus.yaml --port 80 --workers 4":
                "four processes on another port",
            "kill -HUP $(pgrep -of 'thalamus serve')": "read the configuration again",
        },
        ("thalamus check-config", "docs/config.md", "docs/operations.md", "docs/production.md"),
        "the configuration cannot be served, or the port is taken",
    ),
    "demo": Page(
        "Run the gateway with a small language model and four experts of it, all built in.\n\n"
        "Needs no configuration and no network. --config may say anything but models.",
        {
            "thalamus demo": "on http://127.0.0.1:8080, with the console at /console/",
            "thalamus demo --port 9000": "on another port",
        },
        ("thalamus serve", "docs/experts.md"),
        "the port is taken",
    ),
    "discover": Page(
        "Print the models of a configuration for servers that are there, adapters included.\n\n"
        "Asks each server what it serves and what it tells of its load.",
        {
            "thalamus discover http://vllm-1:8000/v1 http://vllm-2:8000/v1 >> thalamus.yaml":
                "begin a configuration",
            "thalamus discover https://llm.example.com/v1 --api-key env:LLM_KEY":
                "of a server that wants a key",
        },
        ("thalamus check-config", "docs/vllm.md"),
        "a server cannot be reached or speaks no OpenAI API",
    ),
    "usage": Page(
        "Add up requests, tokens and cost by key, model, backend, profile, outcome, day or "
        "month.\n\n"
        "Reads the ledger that state.ledger of the configuration names; days are UTC, both "
        "included.",
        {
            "thalamus usage --config thalamus.yaml --by key --by month": "what each key used",
            "thalamus usage --file ledger.db --by model --since 2026-11-01 --json":
                "the same for a program",
        },
        ("thalamus savings", "thalamus keys", "docs/operations.md"),
        "there is no ledger, or it cannot be read",
    ),
    "check-config": Page(
        "Check a configuration and print it as it takes effect, with every default; secrets "
        "as ***.\n\n"
        "All that is wrong is said at once, each with its file, line and column.",
        {
            "thalamus check-config thalamus.yaml": "before a reload",
            "thalamus check-config thalamus.yaml > /dev/null && kill -HUP $PID":
                "reload only what can be served",
        },
        ("thalamus serve", "docs/config.md"),
        "the configuration is wrong",
    ),
    "convert": Page(
        "Print a LiteLLM config.yaml as a configuration of ours.\n\n"
        "What has no counterpart here is left out and named in comments.",
        {"thalamus convert config.yaml > thalamus.yaml": "then check it with check-config"},
        ("thalamus check-config", "docs/migration.md"),
        "the file cannot be read or is none of LiteLLM's",
    ),
    "bench": Page(
        "Measure what a request, a chunk and an open stream cost, beside the peers that are "
        "installed.\n\n"
        "Starts a backend in C, the gateway and each peer in turn on loopback, and asks them "
        "with wrk.\n"
        "Needs wrk and a C compiler.",
        {
            "thalamus bench --quick": "see that it works",
            "thalamus bench --page docs/performance.md": "write the table into a page",
            "thalamus bench --peer nginx --flames flames.svg": "and see where the time goes",
        },
        ("docs/performance.md",),
        "wrk or the compiler is not there, or a peer failed",
    ),
    "keys": Page(
        "Make, list and revoke API keys, with rates, budgets and routing policy of their own.\n\n"
        "A running gateway sees a change within two seconds. Secrets are kept as hashes only.",
        {
            "thalamus keys --config thalamus.yaml create alice --budget-usd-per-day 5":
                "a key with a budget",
            "thalamus keys --config thalamus.yaml list": "all keys",
        },
        ("thalamus usage", "docs/keys.md"),
    ),
    "keys create": Page(
        "Make a key and print it, this once; what is kept is its hash.",
        {
            "thalamus keys create alice --requests-per-minute 60 --budget-usd-per-month 50":
                "rates and a budget",
            "thalamus keys create batch --priority low --objective cheap --deny gpt-5":
                "for work that can wait, without one model",
        },
        ("thalamus keys list", "docs/keys.md"),
        "the policy makes no sense, or the file of keys cannot be written",
    ),
    "keys list": Page(
        "Show every key with its state and its policy, never its secret.",
        {"thalamus keys --file keys.db list --json": "for a program"},
        ("thalamus keys create", "thalamus usage"),
        "the file of keys cannot be read",
    ),
    "keys revoke": Page(
        "End a key for ever. Running gateways refuse it within two seconds.",
        {"thalamus keys revoke 1f0c5b7d9a3e": "by the id that keys list shows"},
        ("thalamus keys list",),
        "there is no such key",
    ),
    "route": Page(
        "Show where a prompt would go, and why: candidates with their predicted quality, "
        "interval and\n"
        "cost, a small Pareto plot, the choice and its reason. No model is asked.",
        {
            'thalamus route "Write a function that reverses a list"': "among the built-in models",
            'thalamus route "What is 17 * 24?" --config thalamus.yaml --objective cheap':
                "among yours, for less money",
        },
        ("docs/flags.md", "docs/policies.md"),
        "the configuration is wrong, or no model can honour the objective",
    ),
    "replay": Page(
        "Make every decision of a log again, bit for bit, and estimate what another policy "
        "would have\n"
        "earned on the same requests (IPS, SNIPS, doubly robust).\n\n"
        "Estimates need choices that chance made: policies.live.exploration in the configuration.",
        {
            "thalamus replay --log decisions.jsonl": "does the log replay?",
            "thalamus replay --log decisions.jsonl --policy cheaper.yaml": "what would this earn?",
        },
        ("thalamus savings", "docs/policies.md"),
        "the log or the policy cannot be read",
    ),
    "savings": Page(
        "Compare what was routed with always-best, always-cheapest, random and each model "
        "alone, on the\n"
        "same requests: as predicted and as paid, with bootstrap intervals; and hold the "
        "predictions\n"
        "against what was paid and how clients scored.",
        {
            "thalamus savings --log decisions.jsonl": "a table",
            "thalamus savings --log mon.jsonl --log tue.jsonl --since 2026-11-23 --json":
                "several logs, for a program",
        },
        ("thalamus replay", "thalamus usage", "docs/savings.md"),
        "a log cannot be read",
    ),
    "train": Page(
        "Train a router on outcomes: who answered which prompt how well.\n\n"
        "Writes an artifact, a folder for router.artifact; nothing in it is ever executed.",
        {
            "thalamus train --data outcomes.parquet --out router": "words, pilots and both "
            "together",
            "thalamus train --data outcomes.parquet --out router --encoder minilm":
                "read prompts by a sentence encoder",
        },
        ("thalamus evaluate", "thalamus predict", "docs/routers.md", "docs/guide.md"),
        "the data are not as they should be; file, column and row are named",
    ),
    "predict": Page(
        "Write what a router predicts: prompt_id, model, predicted_quality, "
        "predicted_output_tokens,\n"
        "predicted_cost_usd.",
        {
            "thalamus predict --data prompts.parquet --out predictions.parquet":
                "by the router that comes with us",
            "thalamus predict --router router --data p.parquet --out o.parquet --kind ensemble":
                "by one of yours",
        },
        ("thalamus evaluate", "docs/routers.md"),
        "the artifact or the data cannot be read",
    ),
    "calibrate": Page(
        "Make the flag guarantee possible: what thresholds keep a promised risk, from "
        "outcomes that the\n"
        "router never trained on.",
        {
            "thalamus calibrate --router router --data outcomes.parquet --out guarantee.json":
                "then name it as router.calibration",
        },
        ("thalamus evaluate", "docs/policies.md"),
        "the artifact or the data cannot be read",
    ),
    "evaluate": Page(
        "Measure a router beside its baselines on prompts that it never trained on, with "
        "intervals.",
        {
            "thalamus evaluate --data router_models/datasets/expert_library.parquet":
                "the table in README.md",
            "thalamus evaluate --router router --data outcomes.parquet --report report.html":
                "a page with plots",
        },
        ("thalamus train", "docs/routers.md"),
        "the artifact or the data cannot be read",
    ),
    "collect": Page(
        "Ask every model every prompt and score the answers into training data.\n\n"
        "Answers are appended to a journal as they come: a run that was stopped goes on, and "
        "--rescore\n"
        "scores them by another rule. A question that failed is a missing label, never a 0.",
        {
            "thalamus collect --prompts P.jsonl --out D.parquet --config thalamus.yaml "
            "--score reference --match numeric": "by the last number of each answer",
            "thalamus collect --prompts P.csv --out D.parquet --config thalamus.yaml "
            "--score judge --judge big --baseline small": "by a judge, in both orders",
        },
        ("thalamus train", "thalamus learn", "docs/learning.md"),
        "prompts or answers cannot be read, or there is no label at all",
    ),
    "learn": Page(
        "Train routers on scored traffic, judge them on held-out prompts, watch them in shadow, and "
        "promote one only if it is better with confidence.\n\n"
        "Works beside the gateway in a process of its own, by the section learning of the "
        "configuration. A running gateway takes a promoted version up by itself.",
        {
            "thalamus learn --config thalamus.yaml run": "one step",
            "thalamus learn status": "all versions, and which one serves",
        },
        ("thalamus savings", "thalamus replay", "docs/learning.md"),
    ),
    "learn run": Page(
        "Take one step: train and judge a version, or look at how the one in shadow does.",
        {
            "thalamus learn run": "once, as from cron",
            "thalamus learn run --every 3600": "every hour, for ever",
        },
        ("thalamus learn status", "docs/learning.md"),
        "the section learning is missing, or the logs or data cannot be read",
    ),
    "learn status": Page(
        "Show every version with what was found of it, and which one serves.",
        {"thalamus learn status --json": "for a program"},
        ("thalamus learn promote",),
    ),
    "learn promote": Page(
        "Bring a version into force, whatever was found of it.",
        {"thalamus learn promote v3": "as learn status names it"},
        ("thalamus learn rollback",),
        "there is no such version, or it cannot be loaded",
    ),
    "learn reject": Page(
        "Turn a version down; it is never promoted by itself.",
        {"thalamus learn reject v3": "as learn status names it"},
        ("thalamus learn status",),
        "there is no such version",
    ),
    "learn rollback": Page(
        "Return to a version that was in force before.",
        {"thalamus learn rollback v2": "as learn status names it"},
        ("thalamus learn promote",),
        "there is no such version, or it cannot be loaded",
    ),
    "pilots": Page(
        "Look at a retriever's pilots (prompts whose outcomes are known), and add or remove "
        "models\n"
        "without training again.",
        {"thalamus pilots list": "every pilot and who does best there"},
        ("docs/routers.md",),
    ),
    "pilots list": Page(
        "Show every pilot and who does best there.",
        {"thalamus pilots list --router router": "of an artifact of yours"},
        ("thalamus pilots prompts",),
    ),
    "pilots prompts": Page(
        "Write the prompts on which a new model has to be measured before it is added.",
        {"thalamus pilots prompts --router router --out prompts.parquet": "then measure the model"},
        ("thalamus pilots add-model",),
    ),
    "pilots choose": Page(
        "Choose one model for a sample of prompts, as for an index that one embedding model "
        "must serve.",
        {"thalamus pilots choose --data sample.parquet": "columns prompt_id and prompt"},
        ("docs/routers.md",),
    ),
    "pilots add-model": Page(
        "Add a model that was measured on the stored prompts; no training is needed.",
        {"thalamus pilots add-model qwen3-8b --router router --data scores.parquet": "then reload"},
        ("thalamus pilots prompts",),
    ),
    "pilots remove-model": Page(
        "Take a model out of the pilots.",
        {"thalamus pilots remove-model qwen3-8b --router router": "then reload"},
        ("thalamus pilots add-model",),
    ),
    "completion": Page(
        "Print the completion of this command for a shell.",
        {
            "source <(thalamus completion bash)": "in this bash; put the line into ~/.bashrc",
            "thalamus completion zsh > ~/.zfunc/_thalamus": "where $fpath has ~/.zfunc",
            "thalamus completion fish > ~/.config/fish/completions/thalamus.fish": "for fish",
        },
    ),
}  # fmt: skip
