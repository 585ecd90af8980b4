//! `td cert list`.

use magrathea_core::api::CertificateInfo;

use crate::client::Query;
use crate::context::Context;
use crate::exit::{Exit, Failure};
use crate::table;

pub async fn run(context: &Context<'_>) -> Result<Exit, Failure> {
    let answer = context.client()?.get(&["certificates"], &Query::new()).await?;
    context.show(answer, |printer, certificates: Vec<CertificateInfo>| {
        let rows = certificates.into_iter().map(|certificate| {
            let expires = certificate.expires.strftime("%Y-%m-%d").to_string();
            [certificate.name, expires, certificate.subjects.join(" ")]
        });
        table::print(printer, ["NAME", "EXPIRES", "HOSTS"], rows);
    })
}
