//! The one integration target: what the suite promises, each promise under the hazard that threatens it.

#[cfg(test)]
mod brake;
#[cfg(test)]
mod changing_files;
#[cfg(test)]
mod cli;
#[cfg(test)]
mod crash;
#[cfg(test)]
mod damage;
#[cfg(test)]
mod drill;
#[cfg(test)]
mod dump;
#[cfg(test)]
mod dump_databases;
#[cfg(test)]
mod dump_mongo;
#[cfg(test)]
mod encryption;
#[cfg(test)]
mod engine_volumes;
#[cfg(test)]
mod golden;
#[cfg(test)]
mod into;
#[cfg(test)]
mod logship_api;
#[cfg(test)]
mod logship_cli;
#[cfg(test)]
mod logship_collectors;
#[cfg(test)]
mod logship_crash;
#[cfg(test)]
mod logship_engine;
#[cfg(test)]
mod logship_podman;
#[cfg(test)]
mod logship_proxy;
#[cfg(test)]
mod logship_rotate;
#[cfg(test)]
mod logship_rotation;
#[cfg(test)]
mod logship_sinks;
#[cfg(test)]
mod logship_ui;
#[cfg(test)]
mod logship_wal;
#[cfg(test)]
mod memory;
#[cfg(test)]
mod mount;
#[cfg(test)]
mod network_faults;
#[cfg(test)]
mod notify;
#[cfg(test)]
mod object_client;
#[cfg(test)]
mod object_lock;
#[cfg(test)]
mod operations;
#[cfg(test)]
mod prune;
#[cfg(test)]
mod quiesce;
#[cfg(test)]
mod quiesce_crash;
#[cfg(test)]
mod retention;
#[cfg(test)]
mod round_trip;
#[cfg(test)]
mod salvage;
#[cfg(test)]
mod serve;
#[cfg(test)]
mod sources;
#[cfg(test)]
mod ssh;
#[cfg(test)]
mod ssh_certificates;
#[cfg(test)]
mod ssh_clients;
#[cfg(test)]
mod ssh_deploy;
#[cfg(test)]
mod ssh_fanout;
#[cfg(test)]
mod ssh_files;
#[cfg(test)]
mod ssh_flow;
#[cfg(test)]
mod ssh_forwards;
#[cfg(test)]
mod ssh_hostile;
#[cfg(test)]
mod ssh_inquiries;
#[cfg(test)]
mod ssh_linger;
#[cfg(test)]
mod ssh_network;
#[cfg(test)]
mod ssh_oracle;
#[cfg(test)]
mod ssh_picker;
#[cfg(test)]
mod ssh_policy;
#[cfg(test)]
mod ssh_record;
#[cfg(test)]
mod ssh_security_keys;
#[cfg(test)]
mod ssh_sessions;
#[cfg(test)]
mod ssh_toolbox;
#[cfg(test)]
mod ssh_totp;
#[cfg(test)]
mod ssh_uploads;
#[cfg(test)]
mod stack;
#[cfg(test)]
mod status;
#[cfg(test)]
mod stores;
#[cfg(test)]
mod stores_remote;
#[cfg(test)]
mod swarm;
#[cfg(test)]
mod tidy;
#[cfg(test)]
mod tool;
