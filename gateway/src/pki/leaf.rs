//! What all certificates have in common: a serial, a name, a life, and when it is time for the next.

use anyhow::Context;
use rcgen::{CertificateParams, DistinguishedName, DnType, KeyUsagePurpose, SerialNumber};
use x509_parser::prelude::{FromDer, X509Certificate};

/// A certificate for a digital signature, good for so many days.
pub fn params(name: &str, days: i64, now: jiff::Timestamp) -> anyhow::Result<CertificateParams> {
    let mut params = CertificateParams::default();
    // 126 random bits with the second highest set: never negative, never with a leading zero byte.
    let mut serial = [0; 16];
    aws_lc_rs::rand::fill(&mut serial).context("no randomness")?;
    if let Some(first) = serial.first_mut() {
        *first = (*first & 0x3f) | 0x40;
    }
    params.serial_number = Some(SerialNumber::from_slice(&serial));
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, name);
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.use_authority_key_identifier_extension = true;
    set_validity(&mut params, days, now)?;
    Ok(params)
}

/// Valid from an hour ago, so that a node whose clock is a little behind can connect at once.
fn set_validity(params: &mut CertificateParams, days: i64, now: jiff::Timestamp) -> anyhow::Result<()> {
    let now = std::time::Duration::from_secs(now.as_second().try_into()?);
    let hour = std::time::Duration::from_secs(3600);
    let lifetime = std::time::Duration::from_secs(u64::try_from(days)? * 86_400);
    params.not_before = (std::time::UNIX_EPOCH + now - hour).into();
    params.not_after = (std::time::UNIX_EPOCH + now + lifetime).into();
    Ok(())
}

/// Whether less than a third of a certificate's life is left. What cannot be read is due as well.
pub fn is_due(der: &[u8], now: jiff::Timestamp) -> bool {
    let Ok((_, certificate)) = X509Certificate::from_der(der) else { return true };
    let (from, until) = (certificate.validity().not_before.timestamp(), certificate.validity().not_after.timestamp());
    (until - now.as_second()) * 3 < until - from
}
