# syntax=docker/dockerfile:1
# Two stages: build with the toolchain, run with nothing but the binary, as a user without rights.
FROM rust:1.95-bookworm AS build
RUN apt-get update && apt-get install -y --no-install-recommends make perl && rm -rf /var/lib/apt/lists/*
WORKDIR /src
COPY Cargo.toml Cargo.lock ./
COPY src ./src
COPY benches ./benches
COPY examples ./examples
COPY tests ./tests
RUN cargo build --release --locked --bin riverrun && strip target/release/riverrun

FROM debian:bookworm-slim
RUN apt-get update && apt-get install -y --no-install-recommends ca-certificates && rm -rf /var/lib/apt/lists/*
RUN useradd --system --create-home --home-dir /data --shell /usr/sbin/nologin riverrun
COPY --from=build /src/target/release/riverrun /usr/local/bin/riverrun
USER riverrun
VOLUME /data
EXPOSE 8088
# Of a server, which is the default command; other commands end before it matters.
HEALTHCHECK --interval=10s --timeout=5s --start-period=10s --retries=6 \
  CMD ["riverrun", "shell", "--server", "http://127.0.0.1:8088", "-e", "SHOW STREAMS;"]
ENTRYPOINT ["riverrun"]
CMD ["server", "--listen", "0.0.0.0:8088", "--data-dir", "/data"]
