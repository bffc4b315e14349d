"""What helm test runs: the gateway is ready, lists its models and decides; nothing is generated."""

import json
import os
import sys
import urllib.error
import urllib.request

gateway = sys.argv[1]
key = os.environ.get("THALAMUS_KEY")
headers = {"content-type": "application/json"} | ({"authorization": f"Bearer {key}"} if key else {})


def ask(path, body=None):
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(gateway + path, data=data, headers=headers)  # noqa: S310
    try:
        with urllib.request.urlopen(request, timeout=10) as answer:  # noqa: S310
            return answer.status, json.load(answer)
    except urllib.error.HTTPError as error:
        return error.code, error.read().decode()


status, told = ask("/health/ready")
if status != 200:
    sys.exit(f"not ready: {status} {told}")
status, told = ask("/v1/models")
if status == 401 and not key:
    sys.exit("ready, but keys are asked for: name a Secret with one in test.secret")
if status != 200:
    sys.exit(f"/v1/models: {status} {told}")
print("models:", ", ".join(model["id"] for model in told["data"]))
body = {"model": "auto", "messages": [{"role": "user", "content": "What is 17 * 24?"}]}
status, told = ask("/v1/route", body)
if status != 200:
    sys.exit(f"/v1/route: {status} {told}")
print("auto would ask", told["chosen"])
