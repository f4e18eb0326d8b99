//! What is read from a broker's URL.

/// `host:port` of an AMQP URL.
pub(super) fn address_of(url: &str) -> Option<String> {
    let rest = url.strip_prefix("amqp://")?;
    let authority = rest.split(['/', '?']).next()?;
    let host = authority.rsplit('@').next()?;
    if host.is_empty() {
        return None;
    }
    let has_port = host
        .rsplit_once(':')
        .is_some_and(|(_, port)| port.parse::<u16>().is_ok());
    Some(if has_port {
        host.to_owned()
    } else {
        format!("{host}:5672")
    })
}

/// The URL without its password.
pub(super) fn masked(url: &str) -> String {
    let Some((scheme, rest)) = url.split_once("://") else {
        return url.to_owned();
    };
    match rest.rsplit_once('@') {
        Some((user, host)) => {
            let user = user.split(':').next().unwrap_or_default();
            format!("{scheme}://{user}:***@{host}")
        }
        None => url.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_amqp_url_names_an_address() {
        assert_eq!(
            address_of("amqp://guest:p%40ss@h:99/%2f").as_deref(),
            Some("h:99")
        );
        assert_eq!(address_of("amqp://broker").as_deref(), Some("broker:5672"));
        assert_eq!(address_of("redis://broker"), None);
        assert_eq!(address_of("amqp:///vhost"), None);
    }

    #[test]
    fn passwords_are_not_shown() {
        assert_eq!(masked("redis://:secret@h:1/0"), "redis://:***@h:1/0");
        assert_eq!(masked("amqp://me:s@cret@h"), "amqp://me:***@h");
        assert_eq!(masked("redis://h:1"), "redis://h:1");
    }
}
