# One image for every service and for the CLI: `docker build --tag farhand .`
FROM python:3.12-slim AS build
WORKDIR /src
RUN python -m venv /opt/farhand
COPY requirements.txt ./
RUN /opt/farhand/bin/pip install --no-cache-dir --require-hashes --requirement requirements.txt
COPY pyproject.toml README.md ./
COPY services ./services
RUN /opt/farhand/bin/pip install --no-cache-dir --no-deps --no-build-isolation .

FROM python:3.12-slim
# A volume that is new takes the owner of the folder that it is mounted on.
RUN useradd --system --uid 10001 --home-dir /var/lib/farhand farhand \
    && install --directory --owner=farhand --mode=0700 /var/lib/farhand \
       /files /certs /certs/servers /certs/worker /certs/worker-gpu /certs/admin
COPY --from=build /opt/farhand /opt/farhand
ENV PATH=/opt/farhand/bin:$PATH PYTHONDONTWRITEBYTECODE=1
USER farhand
WORKDIR /var/lib/farhand
ENTRYPOINT ["farhand"]
CMD ["--help"]
