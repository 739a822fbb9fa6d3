//! `certs`: certificates of nodes and clients, shown, renewed, changed and made.

use std::collections::BTreeMap;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use clap::ValueEnum;
use serde_json::{Value, json};

use crate::cluster::outcomes::all_or_partial;
use crate::cluster::{NodeId, Tls};
use crate::error::{Error, Result};
use crate::local::authority::{self, Authority, VALID, write_private};
use crate::local::certificate::{self, left};
use crate::ops::certificates::{Certified, Wanted, ends};
use crate::ops::{Context, target};
use crate::terminal::options::{Options, Output};
use crate::terminal::out;
use crate::terminal::progress::Progress;
use crate::verbs::select;

/// What `certs` takes.
#[derive(Debug, Clone, clap::Args)]
pub struct Arguments {
    #[command(subcommand)]
    pub command: Command,
}

/// What is done with certificates.
#[derive(Debug, Clone, clap::Subcommand)]
pub enum Command {
    /// Show when certificates end: those of the nodes, the authority's, and raftctl's own
    #[command(after_help = "Examples:
  raftctl certs show
  raftctl certs show --output json")]
    Show,

    /// Give nodes new certificates now; no restart, no failed request
    ///
    /// `up`, `start` and `restart` do that for certificates with less than ten days left.
    #[command(after_help = "Examples:
  raftctl certs renew
  raftctl certs renew 3")]
    Renew {
        /// Which nodes
        #[arg(value_name = "NODES", default_value = "all")]
        selector: String,
    },

    /// Put another authority in the place of the one that signs, in two steps
    ///
    /// The first step trusts both and signs everything anew. Then give clients new certificates (`certs
    /// issue`); --finish ends the trust in the authority before, and with it all that it has signed.
    #[command(after_help = "Examples:
  raftctl certs rotate
  raftctl certs rotate --finish")]
    Rotate {
        /// Trust the new authority alone
        #[arg(long)]
        finish: bool,
    },

    /// Make a certificate for a client: NAME.pem, NAME.key (for nobody else to read) and ca.pem
    #[command(after_help = "\
A prefix is for readers and writers: they may touch keys that begin with it, and no others.

Examples:
  raftctl certs issue --role reader --prefix app/ dashboard
  raftctl certs issue --role operator --into ~/certs alice")]
    Issue(Issue),

    /// Let raftctl in this folder connect with a certificate that was issued elsewhere
    ///
    /// For a colleague, whose folder has cluster.yaml and not the authority. FILE is NAME.pem, as `certs issue` has
    /// written it; NAME.key and ca.pem lie beside it. What raftctl may do then is what the role of the
    /// certificate may do.
    #[command(after_help = "Examples:
  raftctl certs issue --role admin alice     where the authority is
  raftctl certs use ~/certs/alice.pem        in the folder of alice")]
    Use {
        /// The certificate
        #[arg(value_name = "FILE")]
        file: PathBuf,
    },
}

/// What `certs issue` takes.
#[derive(Debug, Clone, clap::Args)]
pub struct Issue {
    /// Whose it is; also the name of the files
    #[arg(value_name = "NAME", value_parser = plain_name)]
    name: String,

    /// What it may do: reader, writer, operator (looks after nodes, touches no keys) or admin
    #[arg(long, value_enum, value_name = "ROLE", hide_possible_values = true)]
    role: Role,

    /// The keys that it is for begin with this [default: all keys]
    #[arg(
        long,
        value_name = "PREFIX",
        default_value = "",
        hide_default_value = true
    )]
    prefix: String,

    /// How long it is valid, as in 12h or 30days
    #[arg(long, value_name = "TIME", default_value = "30days")]
    #[arg(value_parser = crate::text::times::parse)]
    valid: Duration,

    /// The folder of the files
    #[arg(long, value_name = "FOLDER", default_value = ".")]
    into: PathBuf,
}

/// What a client is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Role {
    /// Reads keys
    Reader,
    /// Reads and writes keys
    Writer,
    /// Looks after nodes, and touches no keys
    Operator,
    /// Everything
    Admin,
}

/// The longest that a certificate of a client may be valid.
const VALID_MAX: Duration = Duration::from_secs(400 * 24 * 3600);

fn plain_name(text: &str) -> std::result::Result<String, String> {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.@".contains(&byte);
    let is_right = (1..=64).contains(&text.len())
        && text.bytes().all(plain)
        && !text.starts_with('.')
        && text != "ca";
    match is_right {
        true => Ok(text.to_owned()),
        false => Err("use 1 to 64 letters, digits, '-', '_', '@' and '.', and not 'ca'".into()),
    }
}

/// Does what is asked for.
///
/// # Errors
/// The cluster speaks no TLS, its authority is not here, or a node takes no certificate.
pub async fn run(context: &Context, options: &Options, arguments: &Arguments) -> Result<()> {
    if context.cluster.tls == Tls::Off {
        return Err(Error::Usage(
            "the nodes of this cluster speak clear text, and have no certificates; `tls: both` in \
             cluster.yaml and `raftctl up` begin to change that"
                .into(),
        ));
    }
    match &arguments.command {
        Command::Show => show(context, options).await,
        Command::Renew { selector } => renew(context, options, selector).await,
        Command::Rotate { finish: false } => rotate(context, options).await,
        Command::Rotate { finish: true } => finish(context, options).await,
        Command::Issue(issue) if Authority::of(&context.cluster).is_outside() => {
            ask(context, options, issue)
        }
        Command::Issue(issue) => make(context, options, issue),
        Command::Use { file } => use_issued(context, options, file),
    }
}

async fn show(context: &Context, options: &Options) -> Result<()> {
    let ids = context.cluster.ids();
    let replies = context.replies(&ids).await;
    let folder = authority::folder(&context.cluster);
    let own = |name: &str| {
        let text = std::fs::read_to_string(folder.join(name)).ok()?;
        certificate::ends(&text)
    };
    let kept = [("authority", own("ca.pem")), ("raftctl", own("admin.pem"))];
    if options.output == Output::Json {
        let node = |id: &NodeId| {
            let reply = replies.get(id).and_then(|reply| reply.as_ref().ok());
            let tls = reply.and_then(|reply| reply.tls.as_ref());
            json!({
                "id": id,
                "ends": tls.map(|tls| rfc3339(ends(tls))),
                "left_s": tls.map(|tls| left(ends(tls)).as_secs()),
                "clear_too": tls.map(|tls| tls.clear_too),
                "trouble": tls.map(|tls| &tls.trouble).filter(|why| !why.is_empty()),
            })
        };
        let mut value = json!({ "nodes": ids.iter().map(node).collect::<Vec<_>>() });
        for (name, ends) in kept {
            value[name] = match ends {
                Some(ends) => json!({ "ends": rfc3339(ends), "left_s": left(ends).as_secs() }),
                None => Value::Null,
            };
        }
        return out::json(&value);
    }
    let mut rows = Vec::new();
    for id in &ids {
        let whose = format!("node {id}");
        let (ends, note) = match replies.get(id) {
            Some(Ok(reply)) => match &reply.tls {
                Some(tls) => (Some(ends(tls)), tls.trouble.clone()),
                None => (None, "it speaks clear text".into()),
            },
            Some(Err(error)) => (None, error.to_string()),
            None => (None, String::new()),
        };
        rows.push(row(whose, ends, note));
    }
    for (name, ends) in kept {
        let note = if ends.is_none() {
            "it is not in this folder"
        } else {
            ""
        };
        rows.push(row(name.into(), ends, note.into()));
    }
    out::print(&out::table(&["WHOSE", "ENDS", "LEFT", "NOTE"], &rows))
}

fn row(whose: String, ends: Option<SystemTime>, note: String) -> Vec<String> {
    let text = |text: Option<String>| text.unwrap_or_else(|| "-".into());
    vec![whose, text(ends.map(rfc3339)), text(ends.map(days)), note]
}

fn rfc3339(time: SystemTime) -> String {
    humantime::format_rfc3339_seconds(time).to_string()
}

/// How long it is until then, for people.
#[must_use]
pub fn days(ends: SystemTime) -> String {
    match left(ends).as_secs() {
        0 => "ended".into(),
        seconds if seconds < 2 * 3600 => format!("{} min", seconds / 60),
        seconds if seconds < 2 * 24 * 3600 => format!("{} h", seconds / 3600),
        seconds => format!("{} days", seconds / (24 * 3600)),
    }
}

/// Gives nodes something, and waits until those that run use it.
async fn give(
    context: &Context,
    ids: &[NodeId],
    wanted: Wanted,
    what: &str,
) -> Result<BTreeMap<NodeId, Certified>> {
    let progress = Progress::new();
    let binary = target::obtain(context, &progress).await?;
    let step = progress.begin(what);
    let given = context.certify(ids, &binary.path, wanted).await;
    let given = all_or_partial(given, "given its certificate")?;
    let running = context.replies(ids).await;
    let running = given
        .clone()
        .into_iter()
        .filter(|(id, _)| matches!(running.get(id), Some(Ok(_))));
    context.await_certificates(&running.collect()).await?;
    step.done();
    Ok(given)
}

async fn renew(context: &Context, options: &Options, selector: &str) -> Result<()> {
    let ids = select(context, selector).await?;
    let given = give(context, &ids, Wanted::Anew, "renew certificates").await?;
    tell(options, "renewed", &given)
}

async fn rotate(context: &Context, options: &Options) -> Result<()> {
    let ids = context.cluster.ids();
    all_answer(context, &ids).await?;
    let authority = own_authority(context)?;
    // One that was interrupted goes on.
    if !authority.is_changing()? {
        authority.replace()?;
    }
    give(context, &ids, Wanted::Trust, "trust both authorities").await?;
    let given = give(context, &ids, Wanted::Missing, "sign certificates anew").await?;
    authority.ensure_admin()?;
    tell(options, "signed anew", &given)?;
    Progress::new().note(
        "both authorities are trusted now: give clients new certificates (`raftctl certs issue`), then \
         `raftctl certs rotate --finish` ends the trust in the one before",
    );
    Ok(())
}

async fn finish(context: &Context, options: &Options) -> Result<()> {
    let ids = context.cluster.ids();
    all_answer(context, &ids).await?;
    let authority = own_authority(context)?;
    if !authority.is_changing()? {
        return Err(Error::Usage(
            "one authority alone is trusted: there is nothing to finish".into(),
        ));
    }
    // Nobody may be left with what the one before has signed.
    give(context, &ids, Wanted::Missing, "look at certificates").await?;
    authority.ensure_admin()?;
    authority.trust_this_alone()?;
    let given = give(
        context,
        &ids,
        Wanted::Trust,
        "trust the new authority alone",
    )
    .await?;
    tell(options, "told whom to trust", &given)
}

/// The authority that can be changed here.
fn own_authority(context: &Context) -> Result<Authority> {
    let authority = Authority::of(&context.cluster);
    match authority.is_outside() {
        false => Ok(authority),
        true => Err(Error::Usage(
            "the authority is not raftctl's (`tls_ca` in cluster.yaml): put the next one's certificate into that file \
             beside the one before, run `raftctl up`, have everything signed anew and run it again; then take the one \
             before out, and run it once more"
                .into(),
        )),
    }
}

/// Whoever is away would not find back: it neither knows the new authority, nor is known by it.
async fn all_answer(context: &Context, ids: &[NodeId]) -> Result<()> {
    let replies = context.replies(ids).await;
    let silent = replies.into_iter();
    let silent: Vec<_> = silent
        .filter_map(|(id, reply)| Some((id, reply.err()?.to_string())))
        .collect();
    match silent.is_empty() {
        true => Ok(()),
        false => Err(Error::Partial {
            done: "asked".into(),
            failed: silent,
        }),
    }
}

fn tell(options: &Options, done: &str, given: &BTreeMap<NodeId, Certified>) -> Result<()> {
    if options.output == Output::Json {
        let one = |(id, given): (&NodeId, &Certified)| json!({ "id": id, "why": given.why });
        return out::json(&json!({ "nodes": given.iter().map(one).collect::<Vec<_>>() }));
    }
    for id in given.keys() {
        out::line(&format!("node {id} {done}"))?;
    }
    Ok(())
}

/// What is wrong with what is asked for.
fn check(issue: &Issue) -> Result<()> {
    if !issue.prefix.is_empty() && !matches!(issue.role, Role::Reader | Role::Writer) {
        return Err(Error::Usage(
            "--prefix is for readers and writers: an operator or admin is one of the whole cluster"
                .into(),
        ));
    }
    if issue.valid > VALID_MAX || issue.valid < Duration::from_secs(60) {
        return Err(Error::Usage("--valid is from 1min to 400days".into()));
    }
    Ok(())
}

impl Role {
    fn name(self) -> String {
        let value = self.to_possible_value();
        value.map_or(String::new(), |role| role.get_name().to_owned())
    }
}

/// Makes a key, and a request that the authority outside is to sign.
fn ask(context: &Context, options: &Options, issue: &Issue) -> Result<()> {
    check(issue)?;
    let authority = Authority::of(&context.cluster);
    let asked = authority.ask_for_client(&issue.name, &issue.role.name(), &issue.prefix)?;
    let at = |suffix: &str| issue.into.join(format!("{}.{suffix}", issue.name));
    let files = [
        (at("key"), asked.key),
        (at("csr"), asked.request),
        (issue.into.join("ca.pem"), authority.trusted()?),
    ];
    write_new(&files)?;
    if options.output == Output::Json {
        return out::json(&json!({
            "key": files[0].0,
            "request": files[1].0,
            "authorities": files[2].0,
            "server_name": context.cluster.dns_name(),
        }));
    }
    for (path, _) in &files {
        out::line(&path.display().to_string())?;
    }
    Progress::new().note(&format!(
        "the authority (`tls_ca`) is to sign {} for clients, and says until when it is valid; what it signs is {}",
        files[1].0.display(),
        at("pem").display()
    ));
    Ok(())
}

/// Takes over what was issued elsewhere.
fn use_issued(context: &Context, options: &Options, file: &Path) -> Result<()> {
    let read = |path: &Path| {
        let text = std::fs::read_to_string(path);
        text.map_err(|error| Error::file("read", path, &error))
    };
    let key = file.with_extension("key");
    let mode = std::fs::metadata(&key).map(|file| file.permissions().mode() & 0o777);
    let mode = mode.map_err(|error| Error::file("read", &key, &error))?;
    if mode & 0o077 != 0 {
        return Err(Error::Usage(format!(
            "{} may be read by others (mode {mode:03o}); chmod 600 it, and have another one issued if others have been \
             there",
            key.display()
        )));
    }
    let trusted = read(&file.with_file_name("ca.pem"))?;
    let authority = Authority::of(&context.cluster);
    authority.take_over(&read(file)?, &read(&key)?, &trusted)?;
    match options.output {
        Output::Json => out::json(&json!({ "used": file })),
        Output::Text => out::line(&format!(
            "raftctl connects with {} from now on",
            file.display()
        )),
    }
}

/// Writes files of which the first two hold what can't be made again.
fn write_new(files: &[(PathBuf, String); 3]) -> Result<()> {
    for (path, _) in &files[..2] {
        if path.exists() {
            return Err(Error::Usage(format!(
                "{} is there already; move it away, or name another folder (--into)",
                path.display()
            )));
        }
    }
    for (path, text) in files {
        write_private(path, text).map_err(|error| Error::file("write", path, &error))?;
    }
    Ok(())
}

fn make(context: &Context, options: &Options, issue: &Issue) -> Result<()> {
    check(issue)?;
    let authority = Authority::of(&context.cluster);
    let role = issue.role.name();
    let issued = authority.issue(&issue.name, &role, &issue.prefix, issue.valid)?;
    let at = |name: String| issue.into.join(name);
    let files = [
        (at(format!("{}.key", issue.name)), issued.key),
        (at(format!("{}.pem", issue.name)), issued.certificate),
        (at("ca.pem".into()), authority.trusted()?),
    ];
    write_new(&files)?;
    let paths: Vec<&Path> = files.iter().map(|(path, _)| &**path).collect();
    let name = context.cluster.dns_name();
    if options.output == Output::Json {
        return out::json(&json!({
            "key": paths[0],
            "certificate": paths[1],
            "authorities": paths[2],
            "server_name": name,
        }));
    }
    for path in paths {
        out::line(&path.display().to_string())?;
    }
    Progress::new().note(&format!(
        "every node is called {name}: name that to your client"
    ));
    Ok(())
}

/// What is worth a word about certificates in use; `None`: all is well.
#[must_use]
pub fn note(tls: &raftkv::admin::TlsState) -> Option<String> {
    if !tls.trouble.is_empty() {
        return Some(format!(
            "its new certificate is not in use: {}",
            tls.trouble
        ));
    }
    let ends = ends(tls);
    (left(ends) < authority::RENEW_BEFORE).then(|| match left(ends).as_secs() {
        0 => "its certificate has ended (`raftctl certs renew`)".into(),
        _ => format!(
            "its certificate ends in {} (`raftctl certs renew`)",
            days(ends)
        ),
    })
}

const _: () = assert!(VALID.as_secs() < VALID_MAX.as_secs());
