//! What is in the images: the package, and how a container of it begins.

use lab::brokers::{AMQP_IMAGE, REDIS_IMAGE};

use crate::manifest::Broker;

/// How one image is made.
pub struct Recipe {
    /// The image's name.
    pub name: &'static str,
    /// Its tag, which is also the version it must hold.
    pub version: &'static str,
    /// The package with the server.
    pub package: &'static str,
    /// The script that a container starts with.
    pub entry_point: &'static str,
    /// What a container runs without arguments.
    pub command: &'static str,
    /// The port to expose.
    pub port: u16,
    /// Where the data lives.
    pub data: &'static str,
}

/// Like the official image: a flag or a configuration file alone goes to the server, the server does not run as root, and it lets
/// in clients from outside the container.
const REDIS_ENTRY_POINT: &str = r#"#!/bin/sh
set -e
case "$1" in -*|*.conf) set -- redis-server "$@" ;; esac
if [ "$1" = redis-server ]; then
    cd /data
    case "$*" in *protected-mode*) ;; *) set -- "$@" --protected-mode no ;; esac
    if [ "$(id -u)" = 0 ]; then
        chown redis:redis /data
        exec setpriv --reuid=redis --regid=redis --clear-groups "$@"
    fi
fi
exec "$@"
"#;

/// Like the official image: logs to the console, `guest` may come in from outside the container, and
/// `docker stop` reaches the server. The package's own script for root would keep the signal to itself, and
/// leave the server 1024 files: that is some 800 connections, and then it waits without a word.
const RABBITMQ_ENTRY_POINT: &str = r#"#!/bin/sh
set -e
if [ "$1" = rabbitmq-server ]; then
    mkdir -p /etc/rabbitmq
    if [ ! -e /etc/rabbitmq/rabbitmq.conf ]; then
        printf 'loopback_users = none\nlog.console = true\nlog.file = false\n' > /etc/rabbitmq/rabbitmq.conf
    fi
    chown -R rabbitmq:rabbitmq /var/lib/rabbitmq
    if [ "$(id -u)" = 0 ]; then
        shift
        export HOME=/var/lib/rabbitmq
        # Where there is no limit at all, Erlang reserves memory for a thousand million.
        ulimit -n 65536 2>/dev/null || true
        exec setpriv --reuid=rabbitmq --regid=rabbitmq --clear-groups /usr/lib/rabbitmq/bin/rabbitmq-server "$@"
    fi
fi
exec "$@"
"#;

/// The recipe of a broker's image.
pub fn of(broker: Broker) -> Recipe {
    match broker {
        Broker::Redis => Recipe {
            name: REDIS_IMAGE.0,
            version: REDIS_IMAGE.1,
            package: "redis-server",
            entry_point: REDIS_ENTRY_POINT,
            command: "redis-server",
            port: 6379,
            data: "/data",
        },
        Broker::Amqp => Recipe {
            name: AMQP_IMAGE.0,
            version: AMQP_IMAGE.1,
            package: "rabbitmq-server",
            entry_point: RABBITMQ_ENTRY_POINT,
            command: "rabbitmq-server",
            port: 5672,
            data: "/var/lib/rabbitmq",
        },
    }
}

impl Recipe {
    /// The image's name and tag.
    pub fn image(&self) -> String {
        format!("{}:{}", self.name, self.version)
    }

    /// Whether a package version, such as `5:7.0.15-1~deb12u4`, is the one in the tag.
    pub fn is_version(&self, package: &str) -> bool {
        let upstream = package.split_once(':').map_or(package, |(_, rest)| rest);
        let upstream = upstream
            .rsplit_once('-')
            .map_or(upstream, |(version, _)| version);
        upstream == self.version
    }

    /// The changes that `docker import` makes to the image's configuration.
    pub fn changes(&self) -> Vec<String> {
        vec![
            "ENTRYPOINT [\"/usr/local/bin/docker-entrypoint.sh\"]".to_owned(),
            format!("CMD [\"{}\"]", self.command),
            format!("EXPOSE {}/tcp", self.port),
            format!("VOLUME {}", self.data),
            format!("WORKDIR {}", self.data),
            "ENV PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin".to_owned(),
        ]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_package_version_is_compared_without_epoch_and_revision() {
        let redis = of(Broker::Redis);
        assert!(redis.is_version("5:7.0.15-1~deb12u4"));
        assert!(redis.is_version("7.0.15"));
        assert!(!redis.is_version("5:7.0.150-1"));
        assert!(!redis.is_version("5:8.0.2-3"));
    }
}
