//! `td git-credential`: git's helper for pushes over HTTPS, set up by `td app link --https`. Protocol: git-credential(1).

use std::io::Read;

use crate::context::Context;
use crate::exit::{Exit, Failure};
use crate::settings;

#[derive(Debug, clap::Args)]
pub struct Arguments {
    /// What git wants: `get`; td keeps its token itself, so `store` and `erase` do nothing
    operation: String,
}

pub fn run(context: &Context<'_>, arguments: &Arguments) -> Result<Exit, Failure> {
    let mut asked = String::new();
    std::io::stdin().take(64 << 10).read_to_string(&mut asked)?;
    if arguments.operation != "get" {
        return Ok(Exit::Done);
    }
    let credentials = settings::load_credentials(&context.globals)?;
    // The token is for its own gateway alone.
    if asked_for(&asked).as_deref() == Some(credentials.gateway.trim_end_matches('/')) {
        context.printer.data(format!("username=td\npassword={}", credentials.token));
    }
    Ok(Exit::Done)
}

/// The place that git asks about, as in `https://gateway.example:7443`.
fn asked_for(asked: &str) -> Option<String> {
    let value = |key: &str| {
        let line = asked.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix('='));
        line.map(str::to_owned)
    };
    Some(format!("{}://{}", value("protocol")?, value("host")?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_place_is_read() {
        for (asked, place) in [
            ("protocol=https\nhost=127.0.0.1:7443\n", Some("https://127.0.0.1:7443")),
            ("capability[]=authtype\nhost=a\nprotocol=http\n", Some("http://a")),
            ("protocol=https\n", None),
            ("hostile=x\nprotocol=https\n", None),
        ] {
            assert_eq!(asked_for(asked).as_deref(), place, "{asked:?}");
        }
    }
}
