# The worker as Amazon SageMaker runs it: `docker run IMAGE serve`, GET /ping and POST /invocations on port 8080.
# `cloudbrush aws push` builds it. No model is inside: workers fetch what a job names from the bucket.
#
# PyPI's torch brings CUDA 13 with it, which needs NVIDIA's driver 580 or newer on the host.
FROM nvidia/cuda:13.0.2-base-ubuntu24.04

RUN apt-get update \
 && apt-get install --yes --no-install-recommends python3 python3-venv \
 && rm -rf /var/lib/apt/lists/*

WORKDIR /opt/cloudbrush
RUN python3 -m venv .
ENV PATH=/opt/cloudbrush/bin:$PATH \
    PYTHONPATH=/opt/cloudbrush/src

# What it stands on, in a layer of its own: gigabytes that are not built or sent again when only our code changes.
COPY constraints.txt pyproject.toml ./
RUN python -c "import tomllib; \
    project = tomllib.load(open('pyproject.toml', 'rb'))['project']; \
    extras = project['optional-dependencies']; \
    print(*project['dependencies'], *extras['worker'], *extras['aws'], sep='\n')" > requirements.txt
RUN pip install --no-cache-dir --constraint constraints.txt --requirement requirements.txt

# Our code, compiled now: it starts sooner, and the file system may be read-only then.
COPY src src
RUN python -m compileall -q src

# /tmp alone is written to: SageMaker puts the instance's own disk there. torch will not load without any.
ENV PYTHONDONTWRITEBYTECODE=1 \
    PYTHONUNBUFFERED=1 \
    HF_HUB_OFFLINE=1 \
    TMPDIR=/tmp \
    CLOUDBRUSH_WORKER_CACHE_DIR=/tmp/cloudbrush-models
LABEL com.amazonaws.sagemaker.capabilities.accept-bind-to-port=true
EXPOSE 8080
USER 10001:10001
WORKDIR /tmp

# The exec form: SIGTERM reaches the worker, which finishes what it paints and leaves.
ENTRYPOINT ["python", "-m", "cloudbrush", "worker", "--host", "0.0.0.0"]
CMD ["serve"]
