//! A dump back into MongoDB: as the manuals of `mongorestore` and `mongosh` have it, without a real server in
//! the tests (see the parent).

/// `shell` runs JavaScript; the password goes by the environment.
macro_rules! shell {
    () => {
        r#"
shell() {
  from MONGO_INITDB_ROOT_PASSWORD
  [ -n "$value" ] || from MONGODB_ROOT_PASSWORD
  CHORES_USER=$user CHORES_WORD=$value mongosh --quiet --norc --eval "
    if (process.env.CHORES_USER) db.getSiblingDB('admin').auth(process.env.CHORES_USER, process.env.CHORES_WORD);
    const own = ['admin', 'config', 'local'];
    const names = db.adminCommand({listDatabases: 1, nameOnly: true}).databases
      .map((one) => one.name).filter((name) => !own.includes(name));
    $1"
}
"#
    };
}

/// Tells the databases that are there already (`occupied=`).
pub const OCCUPIED: &str = concat!(
    login!(),
    shell!(),
    r#"
run() {
  pick mongosh
  login
  shell "names.slice(0, 10).forEach((name) => print('occupied=' + name));"
}
"#
);

/// Arguments: those for `mongorestore` beside its login.
pub const RESTORE: &str = concat!(
    login!(),
    r#"
run() {
  pick mongorestore
  login
  set -- --archive --quiet --stopOnError "$@"
  [ -n "$user" ] || exec mongorestore "$@"
  exec mongorestore "$@" --username="$user" --authenticationDatabase=admin --config=/dev/fd/4 4<<END
password: '$quoted'
END
}
"#
);

/// Whether it answers.
pub const READY: &str = concat!(
    login!(),
    shell!(),
    r#"
run() {
  pick mongosh
  login
  shell "db.adminCommand({ping: 1});" >/dev/null
}
"#
);

/// Tells the data directory (`directory=`), counts the documents of every collection and has the server validate each; what is wrong is told as
/// `CHECK TABLE` of MySQL does.
pub const CHECK: &str = concat!(
    login!(),
    shell!(),
    r#"
run() {
  pick mongosh
  login
  shell "
    const parsed = db.adminCommand({getCmdLineOpts: 1}).parsed || {};
    print('directory=' + ((parsed.storage || {}).dbPath || '/data/db'));
    for (const name of names) {
      for (const one of db.getSiblingDB(name).getCollectionInfos({type: 'collection'})) {
        const collection = db.getSiblingDB(name).getCollection(one.name);
        print('rows=' + name + '.' + one.name + '=' + collection.countDocuments({}));
        const said = collection.validate({full: true});
        if (!said.valid) {
          const why = said.errors.join('; ').replace(/\s+/g, ' ');
          print([name + '.' + one.name, 'check', 'error', why].join('\t'));
        }
      }
    }
    print('checked=validate');"
}
"#
);
