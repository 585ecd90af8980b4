//! `td login`, `td join` and `td logout`: an SSH key proves who one is; a session comes back.

use std::path::PathBuf;

use base64::Engine;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use magrathea_core::api::{
    AskChallenge, Authority, Challenge, Credentials, Ended, Join, LoggedIn, Login, fingerprint_of, login_message,
};
use serde_json::json;

use crate::client::{Client, Query};
use crate::context::Context;
use crate::exit::{Exit, Failure};
use crate::{settings, sign};

#[derive(Debug, clap::Args)]
pub struct LoginArguments {
    /// The gateway's address, as in `https://gateway.example:7443`; else the one in the credentials
    url: Option<String>,
    #[command(flatten)]
    how: How,
    /// The gateway's fingerprint, as an administrator tells it; asked about when absent
    #[arg(long, value_name = "SHA256:…")]
    fingerprint: Option<String>,
}

#[derive(Debug, clap::Args)]
pub struct JoinArguments {
    /// The invitation, as you were told it
    invitation: String,
    #[command(flatten)]
    how: How,
}

#[derive(Debug, clap::Args)]
struct How {
    /// The SSH key; else the agent's keys and those in ~/.ssh
    #[arg(long, value_name = "FILE")]
    key: Option<PathBuf>,
}

/// `td login`.
pub async fn login(context: &Context<'_>, arguments: &LoginArguments) -> Result<Exit, Failure> {
    let stored = settings::stored_credentials(&context.globals)?;
    let url = arguments.url.clone().or_else(|| context.globals.gateway.clone());
    let gateway = url.or_else(|| stored.as_ref().map(|stored| stored.gateway.clone())).ok_or_else(|| {
        Failure::usage("which gateway?").hint("td login https://gateway.example:7443, or td join INVITATION")
    })?;
    let gateway = gateway.trim_end_matches('/').to_owned();
    let pinned = stored.filter(|stored| stored.gateway == gateway && arguments.fingerprint.is_none());
    let ca = match pinned {
        Some(stored) => stored.ca,
        None => fetch_authority(context, &gateway, arguments.fingerprint.as_deref()).await?,
    };
    let client = Client::anonymous(&gateway, &ca)?;
    let login = prove(&client, &ca, &arguments.how, true).await?;
    let session: LoggedIn = client.post(&["login"], &login).await?;
    welcome(context, gateway, ca, session)
}

/// `td join`.
pub async fn join(context: &Context<'_>, arguments: &JoinArguments) -> Result<Exit, Failure> {
    let bad = || Failure::usage("this is not an invitation").hint("it is one word that begins with magjoin_");
    let coded = arguments.invitation.trim().strip_prefix("magjoin_").ok_or_else(bad)?;
    let text = BASE64_URL_SAFE_NO_PAD.decode(coded).ok().and_then(|b| String::from_utf8(b).ok()).ok_or_else(bad)?;
    let mut lines = text.lines();
    let (Some(gateway), Some(fingerprint), Some(secret)) = (lines.next(), lines.next(), lines.next()) else {
        return Err(bad());
    };
    let gateway = context.globals.gateway.clone().unwrap_or_else(|| gateway.to_owned());
    let ca = fetch_authority(context, &gateway, Some(fingerprint)).await?;
    let client = Client::anonymous(&gateway, &ca)?;
    let login = prove(&client, &ca, &arguments.how, false).await?;
    let session: LoggedIn = client.post(&["join"], &Join { invitation: secret.to_owned(), login }).await?;
    welcome(context, gateway, ca, session)
}

/// `td logout`.
pub async fn logout(context: &Context<'_>) -> Result<Exit, Failure> {
    let ended: Ended = context.client()?.delete_for(&["login"], &Query::new()).await?;
    settings::forget_token(&context.globals)?;
    context.done(&ended);
    context.printer.note("logged out: the session is void");
    Ok(Exit::Done)
}

/// Fetches the gateway's CA from whoever answers, and takes it only under a fingerprint that was told or confirmed.
async fn fetch_authority(context: &Context<'_>, gateway: &str, told: Option<&str>) -> Result<String, Failure> {
    let authority: Authority = Client::unverified(gateway)?.get(&["authority"], &Query::new()).await?;
    let real = fingerprint_of(&authority.ca)
        .ok_or_else(|| Failure::say(Exit::NotAllowed, "the gateway told no certificate"))?;
    match told {
        Some(told) if told.trim().eq_ignore_ascii_case(&real) => {}
        Some(_) => {
            return Err(Failure::say(
                Exit::NotAllowed,
                format!("whoever answers at {gateway} is not that gateway: {real}"),
            )
            .hint("compare the fingerprint with the administrator's; somebody may stand in between"));
        }
        None => {
            context.printer.message(format!("The gateway at {gateway} says it is\n  {real}"));
            if !settings::can_ask() {
                return Err(Failure::say(Exit::NotAllowed, "nobody can be asked whether this is right")
                    .hint(format!("give what an administrator told you: --fingerprint {real}")));
            }
            context.printer.question("Is this what an administrator told you? (yes/no)");
            let mut answer = String::new();
            std::io::stdin().read_line(&mut answer)?;
            if !matches!(answer.trim(), "yes" | "y") {
                return Err(Failure::say(Exit::NotAllowed, "not confirmed"));
            }
        }
    }
    Ok(authority.ca)
}

/// Signs a fresh challenge; with a key that the gateway knows, or for an invitation with the first there is.
async fn prove(client: &Client, ca: &str, how: &How, known_only: bool) -> Result<Login, Failure> {
    let keys = sign::candidates(how.key.as_deref())?;
    let ask = AskChallenge { keys: keys.iter().map(|key| key.public.clone()).collect() };
    let challenge: Challenge = client.post(&["login", "challenge"], &ask).await?;
    let chosen = match challenge.key {
        Some(index) => keys.get(index),
        None if known_only => None,
        None => keys.first(),
    };
    let Some(key) = chosen else {
        return Err(Failure::say(Exit::NotAllowed, "the gateway knows none of your SSH keys").hint(
            "an administrator can add one (td key add FILE.pub --person YOU) or invite you (td person invite YOU)",
        ));
    };
    let fingerprint = fingerprint_of(ca).unwrap_or_default();
    let signature = sign::sign(key, &login_message(&fingerprint, &challenge.challenge))?;
    Ok(Login { challenge: challenge.challenge, signature, name: settings::here() })
}

fn welcome(context: &Context<'_>, gateway: String, ca: String, session: LoggedIn) -> Result<Exit, Failure> {
    let LoggedIn { token, person, organisation } = session;
    settings::store_credentials(&context.globals, &Credentials { gateway: gateway.clone(), token, ca })?;
    context.done(&json!({"gateway": gateway, "person": person, "organisation": organisation}));
    context.printer.note(format!(
        "you are {person} of {organisation} at {gateway}; the session is good for 30 days after its last use"
    ));
    Ok(Exit::Done)
}
