# An image with pcaphub and the libraries that it needs, and nothing else: no shell, no package manager.
#   docker build -t pcaphub .
#   docker run --rm -p 127.0.0.1:57012:57012 pcaphub demo --listen 0.0.0.0:57012 --allow any
# docs/service.md has more, and what is tested of it.

FROM rust:1-bookworm AS build
RUN apt-get update \
    && apt-get install -y --no-install-recommends ca-certificates libpcap0.8 \
    && rm -rf /var/lib/apt/lists/*
WORKDIR /src
COPY . .
RUN cargo build --release --locked -p pcaphub-cli \
    && strip target/release/pcaphub \
    && packaging/image/root /image target/release/pcaphub

FROM scratch
COPY --from=build /image /
# Live capture needs `--network host --cap-add NET_RAW --user 0`; pcaphub gives root up by itself then.
USER 65532:65532
WORKDIR /var/lib/pcaphub
EXPOSE 57012
# It drains on SIGTERM: clients take what is queued.
STOPSIGNAL SIGTERM
ENTRYPOINT ["/usr/bin/pcaphub"]
CMD ["run", "/etc/pcaphub/pcaphub.toml"]
