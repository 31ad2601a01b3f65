# Two images from one file: `serve` (setup, streams, api) and `train` (trainer, with PyTorch). Neither holds the source.
ARG PYTHON=python:3.12-slim

FROM ${PYTHON} AS wheel
WORKDIR /source
COPY . .
RUN pip wheel --no-cache-dir --no-deps --wheel-dir /wheels .

FROM ${PYTHON} AS serve-packages
COPY --from=wheel /wheels /wheels
COPY constraints.txt /wheels/
RUN python -m venv /opt/tunemill \
 && /opt/tunemill/bin/pip install --no-cache-dir --constraint /wheels/constraints.txt "$(ls /wheels/*.whl)[kafka]"

FROM serve-packages AS train-packages
RUN /opt/tunemill/bin/pip install --no-cache-dir --constraint /wheels/constraints.txt "$(ls /wheels/*.whl)[kafka,train]"

FROM ${PYTHON} AS runtime
# The folders are made here, so that a new volume that is mounted on one of them belongs to this user.
RUN useradd --system --uid 10001 --home-dir /var/lib/tunemill --create-home tunemill \
 && install --directory --owner=tunemill /var/lib/tunemill/files /var/lib/tunemill/work
ENV PATH=/opt/tunemill/bin:$PATH PYTHONUNBUFFERED=1
WORKDIR /var/lib/tunemill
USER tunemill
ENTRYPOINT ["tunemill"]
CMD ["--help"]

FROM runtime AS train
ENV HF_HOME=/var/lib/tunemill/work/hub
COPY --from=train-packages /opt/tunemill /opt/tunemill

FROM runtime AS serve
COPY --from=serve-packages /opt/tunemill /opt/tunemill
