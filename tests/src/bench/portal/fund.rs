//! The reference fund's people: 185 establishments, three PCs each with a user of its own, a
//! sharoushi's office, all of them connected.
//!
//! Establishments are registered by the portal's own function; the rest is written as the
//! portal writes it, sealed secrets included.

use std::net::Ipv6Addr;

use anyhow::{Context as _, Result};
use portal::audit::Actor;
use portal::authenticator::Authenticator;
use portal::db::{Db, Tx};
use portal::establishments::{
    DeviceLimit, LoginName, MailAddress, Name, NewEstablishment, NewUser, register,
};
use portal::keys::MasterKey;
use protocol::{Bytes32, EstablishmentNumber, SessionId};
use sqlx::Row as _;
use time::{Duration, OffsetDateTime};

use super::bulk::{Dice, Table, ms, row};
use crate::stage::Stage;

/// The reference fund's establishments.
pub(super) const ESTABLISHMENTS: u16 = 185;
/// PCs of each, with a user of its own.
const PCS: usize = 3;
/// The number of the sharoushi's office.
const OFFICE: u16 = 9001;
/// Whom the office acts for.
const CLIENTS: usize = 40;
/// Every user's password: what checking it costs does not depend on it.
pub(super) const PASSWORD: &str = "kazaguruma-mawaru-oka-no-ue-5";
/// How long sessions last.
const SESSION: Duration = Duration::minutes(90);
/// The network of PCs inside tunnels.
const INNER_NETWORK: u128 = 0xfd72_656e_6b65_6900 << 64;

/// One establishment.
#[derive(Debug)]
pub(super) struct Place {
    pub(super) id: String,
    pub(super) number: EstablishmentNumber,
    pub(super) name: String,
}

/// One user at his PC, connected.
#[derive(Debug, Clone)]
pub(super) struct Person {
    pub(super) id: String,
    pub(super) login: String,
    pub(super) name: String,
    /// The authenticator's secret, base32.
    pub(super) secret: String,
    /// Index of the establishment.
    pub(super) at: usize,
    pub(super) device: String,
    pub(super) session: SessionId,
    pub(super) inner_address: Ipv6Addr,
}

/// Everybody.
#[derive(Debug)]
pub(super) struct Fund {
    pub(super) now: OffsetDateTime,
    pub(super) keys: MasterKey,
    /// The employers, then the sharoushi's office.
    pub(super) places: Vec<Place>,
    /// Three of each employer, the admin first; at the end the sharoushi.
    pub(super) people: Vec<Person>,
    /// Ids and names of staff.
    pub(super) staff: Vec<(String, String)>,
}

impl Fund {
    /// The employers.
    pub(super) fn employers(&self) -> &[Place] {
        &self.places[..usize::from(ESTABLISHMENTS)]
    }

    /// The people of an employer, the admin first.
    pub(super) fn people_of(&self, employer: usize) -> &[Person] {
        &self.people[employer * PCS..(employer + 1) * PCS]
    }

    /// Everybody but the sharoushi.
    pub(super) fn clerks(&self) -> &[Person] {
        &self.people[..self.people.len() - 1]
    }

    /// The sharoushi.
    pub(super) fn sharoushi(&self) -> &Person {
        &self.people[self.people.len() - 1]
    }
}

/// Registers everybody.
pub(super) async fn settle(stage: &Stage, db: &Db, dice: &mut Dice) -> Result<Fund> {
    let now = now();
    let keys = MasterKey::from_file(&stage.folder().join("portal/master.key"))?;
    let hash = portal::passwords::hash(PASSWORD).await?;
    let since = now - Duration::days(3652);
    let mut tx = db.begin().await?;
    let staff = sqlx::query("SELECT id, name FROM staff ORDER BY id")
        .fetch_all(&mut *tx)
        .await?
        .iter()
        .map(|row| Ok((row.try_get("id")?, row.try_get("name")?)))
        .collect::<Result<_, sqlx::Error>>()?;
    let mut fund = Fund {
        now,
        keys,
        places: Vec::new(),
        people: Vec::new(),
        staff,
    };
    for number in (1..=ESTABLISHMENTS).chain([OFFICE]) {
        let name = match number {
            OFFICE => "計測社会保険労務士法人".to_owned(),
            _ => format!("計測用事業所第{number}号株式会社"),
        };
        let place = NewEstablishment {
            number: EstablishmentNumber::new(number)?,
            name: Name::new(&name)?,
            device_limit: DeviceLimit::new(u16::try_from(PCS)?)?,
        };
        let login = format!("pc{number}-0");
        let admin = NewUser {
            login: LoginName::new(&login)?,
            name: Name::new(&person_name(number, 0))?,
            email: MailAddress::new(&address(&login))?,
            password_hash: hash.clone(),
        };
        let actor = Actor::CommandLine;
        let (id, user) = register(&mut tx, &fund.keys, &actor, &place, &admin, since).await?;
        fund.places.push(Place {
            id: id.to_string(),
            number: place.number,
            name,
        });
        let at = fund.places.len() - 1;
        fund.people
            .push(person(dice, now, number, 0, at, user.to_string()));
        for pc in 1..if number == OFFICE { 1 } else { PCS } {
            let user = dice.id(ms(since)).to_string();
            fund.people.push(person(dice, now, number, pc, at, user));
        }
    }
    sqlx::query("UPDATE establishments SET kind = 'sharoushi' WHERE number = $1")
        .bind(i64::from(OFFICE))
        .execute(&mut *tx)
        .await?;
    write_people(&mut tx, &fund, &hash, since, dice).await?;
    write_delegations(&mut tx, &fund, dice).await?;
    Db::commit(tx).await?;
    Ok(fund)
}

fn person(
    dice: &mut Dice,
    now: OffsetDateTime,
    number: u16,
    pc: usize,
    at: usize,
    id: String,
) -> Person {
    let host = u128::from(u64::from_be_bytes(
        *dice.bytes().first_chunk().expect("32 bytes have 8"),
    ));
    Person {
        id,
        login: format!("pc{number}-{pc}"),
        name: person_name(number, pc),
        secret: Authenticator::generate().to_base32().replace(' ', ""),
        at,
        device: dice.id(ms(now)).to_string(),
        session: SessionId::from_uuid(dice.id(ms(now))),
        inner_address: Ipv6Addr::from_bits(INNER_NETWORK | host),
    }
}

fn person_name(number: u16, pc: usize) -> String {
    format!("計測 花子{number}-{pc}")
}

fn address(login: &str) -> String {
    format!("{login}@jigyosho.example")
}

/// Accounts with authenticators and the first steps done, PCs, and their sessions.
async fn write_people(
    tx: &mut Tx,
    fund: &Fund,
    hash: &str,
    since: OffsetDateTime,
    dice: &mut Dice,
) -> Result<()> {
    let mut users = Table::new(
        "users",
        "id, user_id, name, email, password_hash, second_factor, created_ms",
    );
    let mut memberships = Table::new(
        "memberships",
        "id, establishment_id, user_id, role, created_ms, confirmed_ms",
    );
    let mut devices = Table::new(
        "devices",
        "id, establishment_id, user_id, name, os, public_key, grants_given, approved_ms, approved_by, seen_ms",
    );
    let mut sessions = Table::new(
        "tunnel_sessions",
        "id, device_id, establishment_id, gateway, generation, device_certificate_sha256, \
         wireguard_public_key, inner_address, opened_ms, deadline_ms, deadline_reason, bytes_in, \
         bytes_out, changed_ms",
    );
    let (now_ms, since_ms) = (ms(fund.now), ms(since));
    for person in &fund.people {
        let place = &fund.places[person.at].id;
        if !person.login.ends_with("-0") {
            users.push(row![
                &person.id,
                &person.login,
                &person.name,
                address(&person.login),
                hash,
                "totp",
                since_ms,
            ]);
            memberships.push(row![
                dice.id(since_ms).to_string(),
                place,
                &person.id,
                "added",
                since_ms,
                since_ms,
            ]);
        }
        devices.push(row![
            &person.device,
            place,
            &person.id,
            format!("PC-{}", person.login),
            "Windows 11",
            "",
            2_400,
            since_ms,
            "command_line",
            now_ms,
        ]);
        sessions.push(row![
            person.session.to_string(),
            &person.device,
            place,
            "demo",
            2_400,
            Bytes32(dice.bytes()).to_string(),
            Bytes32(dice.bytes()).to_string(),
            person.inner_address.to_string(),
            now_ms,
            ms(fund.now + SESSION),
            "time_limit",
            0,
            0,
            now_ms,
        ]);
    }
    for table in [&mut users, &mut memberships, &mut devices, &mut sessions] {
        table.write(tx).await?;
    }
    sqlx::query(
        "UPDATE users SET second_factor = 'totp', password_is_initial_since_ms = NULL,
                terms_version = 1, contacts_ms = created_ms, introduced_ms = created_ms",
    )
    .execute(&mut **tx)
    .await?;
    sqlx::query("UPDATE memberships SET confirmed_ms = created_ms")
        .execute(&mut **tx)
        .await?;
    for person in &fund.people {
        let secret = Authenticator::from_base32(&person.secret).context("a secret")?;
        sqlx::query("UPDATE users SET totp_sealed = $1 WHERE id = $2")
            .bind(secret.seal(&fund.keys, &person.id))
            .bind(person.id.as_str())
            .execute(&mut **tx)
            .await?;
    }
    Ok(())
}

/// The sharoushi acts for some employers, not for the largest alone.
async fn write_delegations(tx: &mut Tx, fund: &Fund, dice: &mut Dice) -> Result<()> {
    let mut delegations = Table::new(
        "delegations",
        "id, client_number, client_id, delegate_id, basis, permissions, procedures, proposed_side, \
         proposed_by, proposed_ms, waits_until_ms, accepted_ms, accepted_by",
    );
    let office = &fund.places[fund.sharoushi().at];
    let since_ms = ms(fund.now - Duration::days(400));
    for client in fund.employers().iter().take(CLIENTS) {
        delegations.push(row![
            dice.id(since_ms).to_string(),
            i64::from(client.number.as_u16()),
            &client.id,
            &office.id,
            "agreement",
            "file fetch history",
            "",
            "client",
            &fund.people[0].id,
            since_ms,
            since_ms,
            since_ms,
            &fund.sharoushi().id,
        ]);
    }
    delegations.write(tx).await
}

#[expect(
    clippy::disallowed_methods,
    reason = "a benchmark reads the machine's clock"
)]
fn now() -> OffsetDateTime {
    OffsetDateTime::now_utc()
}
