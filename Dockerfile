# The sidecar's image: its dependencies from the lock file, its code, and nothing to build with.
#
# A base pinned by digest is better than a tag that moves. Take the digest from
#   docker buildx imagetools inspect python:3.11-slim
# and build with
#   docker build --build-arg PYTHON_IMAGE=python:3.11-slim@sha256:... .
# Any base will do that has python3 (3.11 or newer), its venv module and pip.
ARG PYTHON_IMAGE=python:3.11-slim

FROM ${PYTHON_IMAGE} AS build
# requirements.traced.lock has what SIDECAR_TRACES=otlp needs as well.
ARG LOCK=requirements.runtime.lock
WORKDIR /src

# The tools, in an environment that is left behind.
COPY requirements.build.lock ./
RUN python3 -m venv /opt/build \
    && /opt/build/bin/python -m pip install --no-cache-dir --disable-pip-version-check --quiet \
       --require-hashes --no-deps -r requirements.build.lock

# The dependencies: a layer that changes only with the lock file. The environment gets no pip.
COPY ${LOCK} ./
RUN python3 -m venv --without-pip /opt/venv \
    && /opt/build/bin/python -m pip --python /opt/venv/bin/python install --no-cache-dir \
       --disable-pip-version-check --quiet --require-hashes --no-deps -r "${LOCK}"

COPY pyproject.toml README.md LICENSE ./
COPY sidecar ./sidecar
RUN /opt/build/bin/python -m pip wheel --no-cache-dir --disable-pip-version-check --quiet \
       --no-deps --no-build-isolation --wheel-dir /dist . \
    && /opt/build/bin/python -m pip --python /opt/venv/bin/python install --no-cache-dir \
       --disable-pip-version-check --quiet --no-deps --no-index /dist/*.whl \
    && /opt/venv/bin/python -m compileall -q -j 0 --invalidation-mode unchecked-hash /opt/venv/lib

FROM ${PYTHON_IMAGE} AS runtime
ARG VERSION=0.1.0
ARG REVISION=unknown
LABEL org.opencontainers.image.title="akoya-sidecar" \
      org.opencontainers.image.description="Keeps Akoya's rotating refresh tokens alive" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}"

# A named volume takes over the owner and the mode of this directory when it is first used.
RUN install -d -m 700 -o 65532 -g 65532 /var/lib/akoya-sidecar/spool
COPY --from=build /opt/venv /opt/venv

ENV PATH="/opt/venv/bin:${PATH}" \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONUNBUFFERED=1

USER 65532:65532
VOLUME ["/var/lib/akoya-sidecar/spool"]
EXPOSE 8080 8081 9464

# SIGTERM starts the drain; give it SIDECAR_DRAIN_TIMEOUT_S and some seconds (docker stop -t 120).
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=10s --timeout=5s --start-period=30s --retries=3 \
    CMD ["/opt/venv/bin/python", "-m", "sidecar", "healthcheck"]
ENTRYPOINT ["/opt/venv/bin/python", "-m", "sidecar"]
CMD ["run"]
