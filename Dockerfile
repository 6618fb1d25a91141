# The image of Floodmark. The base has a digest, the content is only Python and Floodmark, and the user is not root.
#
#   digest=$(docker buildx imagetools inspect python:3.13-slim-bookworm --format '{{.Manifest.Digest}}')
#   docker build --build-arg PYTHON_DIGEST="$digest" --tag floodmark .
#
# There is no default digest. Without one, the build stops at its first line.
ARG PYTHON_DIGEST

FROM python:3.13-slim-bookworm@${PYTHON_DIGEST} AS build
# The extras of Floodmark to install, as in pyproject.toml. With zstd,report the exporter can serve the report.
ARG EXTRAS=zstd
WORKDIR /build
# The compiler of the native encoder. It stays in this stage, and the base's digest pins the release it comes from.
# hadolint ignore=DL3008
RUN apt-get update \
    && apt-get install --yes --no-install-recommends gcc libc6-dev \
    && rm -rf /var/lib/apt/lists/*
COPY pyproject.toml hatch_build.py README.md LICENSE ./
COPY src src
COPY migrations migrations
# Amazon's own authorities sign the certificates of RDS. The image trusts them and the public ones.
ADD https://truststore.pki.rds.amazonaws.com/global/global-bundle.pem rds.pem
RUN python -m venv /opt/floodmark \
    && /opt/floodmark/bin/python -m pip install --no-cache-dir ".[${EXTRAS}]" \
    && /opt/floodmark/bin/python -c 'import floodmark.native.encoder' \
    && /opt/floodmark/bin/python -m pip uninstall --yes pip \
    && cat /etc/ssl/certs/ca-certificates.crt rds.pem > /opt/floodmark/authorities.pem

FROM python:3.13-slim-bookworm@${PYTHON_DIGEST}
LABEL org.opencontainers.image.title="floodmark" \
      org.opencontainers.image.description="Copies a database to S3 and moves only what changed"
COPY --from=build /opt/floodmark /opt/floodmark
# The entry point also takes the command of the extractor that Floodmark replaces: see docs/cli.md.
COPY ops/image/entrypoint.py /opt/floodmark/bin/floodmark-entrypoint
COPY ops/image/health.py /opt/floodmark/bin/floodmark-health
RUN python -m pip uninstall --yes pip \
    && rm -r /usr/local/lib/python3.13/ensurepip \
    && mkdir /etc/floodmark
ENV PATH=/opt/floodmark/bin:$PATH \
    HOME=/tmp \
    PGSSLROOTCERT=/opt/floodmark/authorities.pem \
    PYTHONDONTWRITEBYTECODE=1
# A number lets Kubernetes check that the user is not root.
USER 10001:10001
# Every command finds a floodmark.yaml that is mounted here.
WORKDIR /etc/floodmark
# Checks only the exporter, because a run is healthy until it ends. Kubernetes uses the chart's probes instead.
HEALTHCHECK --interval=60s --timeout=10s --start-period=60s CMD ["floodmark-health"]
ENTRYPOINT ["floodmark-entrypoint"]
CMD ["run"]
