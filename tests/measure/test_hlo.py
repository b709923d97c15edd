"""Collectives read from a compiled program's text: kinds, bytes, groups, turns of loops."""

import pytest

from xmodal_jax.measure import hlo

TEXT = """HloModule jit_step, is_scheduled=true

%add (a: f32[], b: f32[]) -> f32[] {
  ROOT %sum = f32[] add(%a, %b)
}

%fused (p: bf16[1,24]) -> bf16[1,96] {
  %p = bf16[1,24]{1,0} parameter(0)
  ROOT %all-gather.5 = bf16[1,96]{1,0:T(8,128)(2,1)} all-gather(%p), channel_id=4, replica_groups=mesh['a'=2,'b'=4] {'b'}, dimensions={1}, frontend_attributes={chain_id="15"}, metadata={op_name="jit(step)/up"}
}

%again (p: bf16[1,24]) -> bf16[1,96] {
  ROOT %all-gather.6 = bf16[1,96]{1,0} all-gather(%p), replica_groups=mesh['a'=2,'b'=4] {'b'}, frontend_attributes={chain_id="15"}
}

%body (state: (s32[], f32[8])) -> (s32[], f32[8]) {
  %x = f32[8]{0} get-tuple-element(%state), index=1
  %ar = f32[8]{0} all-reduce(%x), replica_groups=[2,4]<=[8], to_apply=%add, metadata={op_name="jit(step)/while/body/psum"}
  ROOT %out = (s32[], f32[8]) tuple(%i, %ar)
}

%condition (state: (s32[], f32[8])) -> pred[] {
  %limit = s32[]{:T(128)} constant(6)
  ROOT %less = pred[] compare(%i, %limit), direction=LT
}

%unused (p: f32[4]) -> f32[4] {
  ROOT %never = f32[4]{0} all-reduce(%p), replica_groups={{0,1}}, to_apply=%add
}

ENTRY %main (p: f32[8]) -> f32[8] {
  %loop = (s32[], f32[8]) while(%start), condition=%condition, body=%body
  %gathered = bf16[1,96]{1,0} fusion(%q), kind=kCustom, calls=%fused
  %later = bf16[1,96]{1,0} fusion(%q), kind=kCustom, calls=%again
  %move = (f32[4,2]{1,0}, f32[4,2]{1,0}, u32[], u32[]) collective-permute-start(%r), source_target_pairs={{0,1},{1,0}}
  %scattered = f32[2,8]{1,0} reduce-scatter(%s), replica_groups={{0,1,2,3},{4,5,6,7}}, dimensions={0}, to_apply=%add
  ROOT %result = f32[8]{0} get-tuple-element(%loop), index=1
}
"""  # noqa: E501


def test_kinds_groups_bytes_and_turns():
    found = {one.kind: one for one in hlo.collectives(TEXT)}
    assert len(hlo.collectives(TEXT)) == 4, "a collective in two fusions counts once; one that never runs does not count"
    reduce, gather = found["all-reduce"], found["all-gather"]
    assert (reduce.times, reduce.group, reduce.result_bytes) == (6, 4, 32)
    assert reduce.sent_bytes == 6 * 2 * 3 / 4 * 32
    assert (gather.times, gather.group, gather.shapes, gather.op_name) == (1, 4, (("bf16", (1, 96)),), "jit(step)/up")
    assert gather.sent_bytes == 3 / 4 * 192
    assert found["collective-permute"].sent_bytes == 32
    assert (found["reduce-scatter"].group, found["reduce-scatter"].sent_bytes) == (4, 3 * 64)
    assert hlo.by_kind(hlo.collectives(TEXT))["all-reduce"] == {"count": 6, "bytes": 192, "sent_bytes": 288}


def test_a_trip_count_that_the_compiler_notes_is_taken():
    noted = TEXT.replace("body=%body", 'body=%body, backend_config={"known_trip_count":{"n":"9"}}')
    assert next(one for one in hlo.collectives(noted) if one.kind == "all-reduce").times == 9


@pytest.mark.parametrize(
    ("line", "size"),
    [
        ("all-gather(%x), replica_groups={{0,1},{2,3}}", 2), ("all-gather(%x), replica_groups=[4,2]<=[2,4]T(1,0)", 2),
        ("all-gather(%x), replica_groups=mesh['x'=2,'y'=4] {'x','y'}", 8), ("all-gather(%x)", 1),
        ("all-gather(%x), replica_groups=mesh['x'=1,'y'=4,'z'=2], device_ids=([2,4]T(1,0)) {'y'}, dimensions={1}", 4),
        ("all-reduce(%x), replica_groups=a notation to come", 0),
    ],
)  # fmt: skip
def test_group_sizes(line, size):
    assert hlo.group_size(line) == size


def test_a_text_without_an_entry_has_none():
    assert hlo.collectives("nothing of the kind") == []


SCATTERED = """\
HloModule jit_step, num_partitions=8

%all-reduce-scatter.2 (p: bf16[2048,64]) -> bf16[512,64] {
  %p = bf16[2048,64]{1,0} parameter(0)
  %all-reduce.9 = bf16[2048,64]{1,0} all-reduce(%p), replica_groups=[2,4]<=[8], to_apply=%add
  ROOT %part = bf16[512,64]{1,0} dynamic-slice(%all-reduce.9, %i, %zero), dynamic_slice_sizes={512,64}
}

ENTRY %main (p: bf16[2048,64]) -> bf16[512,64] {
  ROOT %sum = bf16[512,64]{1,0} fusion(%p), kind=kCustom, calls=%all-reduce-scatter.2
}
"""


def test_an_all_reduce_of_which_each_device_keeps_its_part_is_a_reduce_scatter():
    (found,) = hlo.collectives(SCATTERED)
    assert (found.kind, found.shapes, found.group) == ("reduce-scatter", (("bf16", (512, 64)),), 4)
    assert found.sent_bytes == 3 * 512 * 64 * 2
