# Floodmark as an image: the base by digest, nothing but Python and Floodmark inside, nobody is root.
#
#   digest=$(docker buildx imagetools inspect python:3.13-slim-bookworm --format '{{.Manifest.Digest}}')
#   docker build --build-arg PYTHON_DIGEST="$digest" --tag floodmark .
#
# There is no default digest: without one the build stops at its first line.
ARG PYTHON_DIGEST

FROM python:3.13-slim-bookworm@${PYTHON_DIGEST} AS build
# Optional extras of Floodmark, as in pyproject.toml.
ARG EXTRAS=zstd
WORKDIR /build
COPY pyproject.toml README.md LICENSE ./
COPY src src
# Amazon's own authorities, which sign the certificates of RDS, beside the public ones.
ADD https://truststore.pki.rds.amazonaws.com/global/global-bundle.pem rds.pem
RUN python -m venv /opt/floodmark \
    && /opt/floodmark/bin/python -m pip install --no-cache-dir ".[${EXTRAS}]" \
    && /opt/floodmark/bin/python -m pip uninstall --yes pip \
    && cat /etc/ssl/certs/ca-certificates.crt rds.pem > /opt/floodmark/authorities.pem

FROM python:3.13-slim-bookworm@${PYTHON_DIGEST}
LABEL org.opencontainers.image.title="floodmark" \
      org.opencontainers.image.description="Lands a database in S3, moving only what changed"
COPY --from=build /opt/floodmark /opt/floodmark
RUN python -m pip uninstall --yes pip \
    && rm -r /usr/local/lib/python3.13/ensurepip \
    && mkdir /etc/floodmark
ENV PATH=/opt/floodmark/bin:$PATH \
    HOME=/tmp \
    PGSSLROOTCERT=/opt/floodmark/authorities.pem \
    PYTHONDONTWRITEBYTECODE=1
# A number, so that Kubernetes can see that it is not root.
USER 10001:10001
# A floodmark.yaml that is mounted here is found by every command.
WORKDIR /etc/floodmark
# Looks at the exporter alone: a run is healthy for as long as it lasts. Kubernetes uses the chart's probes instead.
HEALTHCHECK --interval=60s --timeout=10s --start-period=60s CMD ["floodmark-health"]
ENTRYPOINT ["floodmark-entrypoint"]
CMD ["run"]
