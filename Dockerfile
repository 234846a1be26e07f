# Poolguard's image: one static program and nothing else. No shell, no library, no user but a number.
#
# `docker build .` builds it whole. `cargo xtask image` and the tests build the last stage alone, around a program that the same
# command has built on the spot; a test compares the commands.

FROM docker.io/library/rust:1.95-slim-bookworm AS build
WORKDIR /poolguard
COPY . .
# No path of the machine gets into the program, so that the same sources give the same bytes.
ENV RUSTFLAGS="-C target-feature=+crt-static --remap-path-prefix=/usr/local/cargo=/cargo"
RUN cargo build --locked --profile dist --bin poolguard --target "$(uname -m)-unknown-linux-gnu"
RUN install -D target/*-unknown-linux-gnu/dist/poolguard /out/poolguard

FROM scratch
LABEL org.opencontainers.image.title="poolguard" \
      org.opencontainers.image.description="Refuses to take a service away in a datacenter that still serves its live traffic" \
      org.opencontainers.image.version="0.1.0" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.url="https://poolguard.dev"
COPY --from=build --chown=0:0 --chmod=0555 /out/poolguard /poolguard
USER 65532:65532
ENTRYPOINT ["/poolguard"]
