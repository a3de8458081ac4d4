FROM python:3.13-slim AS build
ENV PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_CACHE_DIR=1
WORKDIR /src
COPY requirements.lock requirements-build.lock ./
# The dependencies are a layer of their own: a change of ours does not fetch them again.
RUN python -m venv /opt/flashsale \
    && /opt/flashsale/bin/pip install --require-hashes -r requirements.lock \
    && python -m venv /tmp/build \
    && /tmp/build/bin/pip install --require-hashes -r requirements-build.lock
COPY . .
RUN /tmp/build/bin/pip wheel --no-deps --no-build-isolation --wheel-dir /tmp/wheel . \
    && /opt/flashsale/bin/pip install --no-deps /tmp/wheel/*.whl \
    && /opt/flashsale/bin/pip uninstall --yes pip \
    && /opt/flashsale/bin/python -m compileall -q /opt/flashsale/lib

FROM python:3.13-slim
LABEL org.opencontainers.image.title="flashsale" org.opencontainers.image.licenses="MIT"
ENV PATH=/opt/flashsale/bin:$PATH PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1
RUN useradd --uid 10001 --user-group --no-create-home --shell /usr/sbin/nologin flashsale
COPY --from=build /opt/flashsale /opt/flashsale
USER 10001:10001
WORKDIR /tmp
EXPOSE 8000
STOPSIGNAL SIGTERM
ENTRYPOINT ["flashsale"]
CMD ["api", "--host", "0.0.0.0", "--port", "8000"]
