# A small image with the one binary, run by a user without rights.
#
#   docker build -t walcast .
#   docker run -e DATABASE_URL=… -e JWT_SECRET=… -p 4000:4000 walcast

FROM rust:1.95-bookworm AS build
WORKDIR /source
COPY . .
# Function names stay for backtraces, the rest of the debug information goes.
ENV CARGO_PROFILE_RELEASE_STRIP=debuginfo
RUN cargo build --release --locked --package walcast-server

FROM debian:bookworm-slim
# The certificate authorities, for PostgreSQL over TLS with sslmode=verify-ca or verify-full.
RUN apt-get update \
    && apt-get install --yes --no-install-recommends ca-certificates \
    && rm -rf /var/lib/apt/lists/*
COPY --from=build /source/target/release/walcast /usr/local/bin/walcast
# A number, so that Kubernetes' runAsNonRoot can check it.
USER 65532:65532
ENV HOST=0.0.0.0 PORT=4000
EXPOSE 4000
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=10s --timeout=5s --start-period=30s --retries=3 \
    CMD ["walcast", "healthcheck"]
ENTRYPOINT ["walcast"]
CMD ["serve"]
