# jouletune with the CPU build of torch. docker build -t jouletune . ; docker run --rm -v "$PWD:/work" jouletune run quickstart
FROM python:3.11-slim-bookworm

SHELL ["/bin/bash", "-o", "pipefail", "-c"]
ENV PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1 PYTHONDONTWRITEBYTECODE=1 \
    JOULETUNE_CACHE=/work/.cache/jouletune HOME=/home/jouletune

WORKDIR /opt/jouletune
COPY pyproject.toml README.md LICENSE jouletune_pytest.py ./
COPY bench bench
COPY hardware hardware
COPY plots plots
COPY suites suites
COPY results/reference results/reference
# the index of the CPU builds first: the one of PyPI brings 6 GB of CUDA
RUN python -m pip install --index-url https://download.pytorch.org/whl/cpu "torch>=2.4" "torchvision>=0.19" \
    && python -m pip install . \
    && useradd --uid 1000 --create-home --home-dir /home/jouletune jouletune \
    && mkdir /work && chown jouletune:jouletune /work

# a meter on a serial port: docker run --device /dev/ttyACM0 --group-add dialout
USER 1000
WORKDIR /work
ENTRYPOINT ["jouletune"]
CMD ["--help"]
