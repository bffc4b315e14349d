# The gateway with its embedded models. No package manager's cache, no compiler and no shell script of
# ours is in the last stage; it runs without root and writes nothing outside /tmp.
#   docker build -t thalamus .   &&   docker run --read-only --tmpfs /tmp -p 8080:8080 thalamus
ARG PYTHON=3.13

FROM python:${PYTHON}-slim-bookworm AS build
ENV UV_PYTHON_DOWNLOADS=never \
    UV_PROJECT_ENVIRONMENT=/opt/thalamus \
    UV_LINK_MODE=copy \
    UV_COMPILE_BYTECODE=1
RUN python -m pip install --no-cache-dir --disable-pip-version-check uv==0.13.9
WORKDIR /src
# What is needed of others changes seldom, and is a layer of its own.
COPY pyproject.toml uv.lock README.md LICENSE ./
RUN uv sync --locked --no-dev --no-install-project --no-cache --quiet
COPY gateway gateway
COPY policies policies
COPY router_models router_models
RUN uv sync --locked --no-dev --no-editable --no-cache --quiet

FROM python:${PYTHON}-slim-bookworm
# The embedded engine computes with OpenMP. Debian's stable release changes it for security alone.
# hadolint ignore=DL3008
RUN apt-get update \
    && apt-get install --yes --no-install-recommends libgomp1 \
    && rm -rf /var/lib/apt/lists/*
COPY --from=build /opt/thalamus /opt/thalamus
ENV PATH=/opt/thalamus/bin:$PATH \
    PYTHONDONTWRITEBYTECODE=1
USER 65532:65532
EXPOSE 8080
HEALTHCHECK --start-period=60s --interval=10s --timeout=3s \
    CMD ["python", "-c", "import urllib.request as r; r.urlopen('http://127.0.0.1:8080/health/ready', timeout=2)"]
ENTRYPOINT ["thalamus"]
CMD ["demo", "--host", "0.0.0.0"]
