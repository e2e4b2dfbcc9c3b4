# build    a Rust toolchain on Debian 12, the tools and the build
# test     `docker build --target test .` runs lint and tests
# runtime  PostgreSQL with the extension, and the sidecar with its ClickHouse engine
#
# Base images are named by digest, which has to be given, because a tag may name another image
# tomorrow:
#   docker build --build-arg RUST_DIGEST=sha256:... --build-arg DEBIAN_DIGEST=sha256:... .
# `docker buildx imagetools inspect rust:1.95-bookworm` and `... debian:bookworm-slim` print them.
#
# PostgreSQL 17 is in the next Debian: --build-arg PG=17 --build-arg DEBIAN=trixie, with the digests
# of rust:1.95-trixie and debian:trixie-slim.

ARG PG=15
ARG DEBIAN=bookworm
ARG RUST_DIGEST
ARG DEBIAN_DIGEST

FROM rust:1.95-${DEBIAN}@${RUST_DIGEST} AS build
ARG PG
ENV PG=${PG}
WORKDIR /arx
# Tools change rarely, so they have their own layer.
COPY scripts/environment scripts/install-tools scripts/
RUN scripts/install-tools && rm -rf /var/lib/apt/lists/*
COPY . .
SHELL ["/bin/bash", "-euo", "pipefail", "-c"]
# The environment of the scripts names the folder of the version. /out holds the files of the
# runtime image, under their final paths.
RUN . scripts/environment \
    && scripts/install-extension \
    && cargo build --release --locked -p arx-udf -p arx-sidecar --bins \
    && mkdir -p /out/usr/local/bin \
    && cp -a "$TARGET/pgrx/." /out/ \
    && cp "$TARGET"/release/{arx-sidecar,arx-clickhouse,arx-udf} "$LIBCHDB" /out/usr/local/bin/

FROM build AS test
RUN rustup component add clippy rustfmt && .ci/run

FROM debian:${DEBIAN}-slim@${DEBIAN_DIGEST} AS runtime
ARG PG
RUN apt-get update \
    && DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends \
        ca-certificates "postgresql-${PG}" "postgresql-${PG}-cron" tini \
    && rm -rf /var/lib/apt/lists/* \
    && pg_dropcluster "${PG}" main \
    && install -d -o postgres -g postgres -m 700 /var/lib/arx /var/lib/arx/postgres /var/lib/arx/sidecar
COPY --from=build /out/ /
COPY scripts/docker-entrypoint /usr/local/bin/
USER postgres
ENV PATH=/usr/lib/postgresql/${PG}/bin:$PATH \
    ARX_POSTGRES_URL="host=/var/run/postgresql user=arx_sidecar dbname=arx" \
    ARX_DATA_DIR=/var/lib/arx/sidecar
VOLUME /var/lib/arx
EXPOSE 5432
ENTRYPOINT ["tini", "--", "docker-entrypoint"]
# `postgres` runs a server with the database arx, `arx-sidecar run` runs the sidecar (set
# ARX_POSTGRES_URL and ARX_REDIS_URL). docker-entrypoint describes passwords.
CMD ["postgres"]
