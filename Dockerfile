# The image for those who have Docker: docker build --tag tenantatlas .
# Without Docker, `cargo xtask image` packs the same content into an OCI archive.

FROM rust:1.95-bookworm AS build
WORKDIR /source
COPY . .
# Statically linked with glibc: the last stage has no loader and no libraries. The switch goes to the last crate only,
# because procedural macros cannot be built with it.
RUN --mount=type=cache,target=/usr/local/cargo/registry \
    --mount=type=cache,target=/source/target \
    cargo rustc --locked --release --bin tenantatlas -- -C target-feature=+crt-static \
    && install -D target/release/tenantatlas /image/tenantatlas \
    && install -d -m 1777 /image/tmp \
    && install -D -m 644 /etc/ssl/certs/ca-certificates.crt /image/etc/ssl/certs/ca-certificates.crt \
    && echo 'root:x:0:0:root:/:/sbin/nologin' > /image/etc/passwd \
    && echo 'nonroot:x:65532:65532:nonroot:/tmp:/sbin/nologin' >> /image/etc/passwd \
    && echo 'root:x:0:' > /image/etc/group \
    && echo 'nonroot:x:65532:' >> /image/etc/group \
    && echo 'hosts: files dns' > /image/etc/nsswitch.conf

FROM scratch
LABEL org.opencontainers.image.title="tenantatlas" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.source="https://github.com/tenantatlas/tenantatlas"
COPY --from=build /image /
USER 65532:65532
ENTRYPOINT ["/tenantatlas"]
