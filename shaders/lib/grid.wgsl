// Grids longer than 32,768 workgroups are folded into two dimensions by the plan: this unfolds them.
fn group_index(group: vec3<u32>, groups: vec3<u32>) -> u32 {
    return group.y * groups.x + group.x;
}
