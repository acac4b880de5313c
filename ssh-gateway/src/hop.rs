//! Has programs run in containers: the broker's side of spawner, tasks and portals.
