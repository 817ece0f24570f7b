// Storage in bf16, everything between in f32: a window, and means of the blocks before it.
!rows = tensor<?x?x?x64xbf16>
func.func @mixed(%q: !rows, %k: !rows, %v: !rows) -> !rows {
  %ks = attn.pool mean %k size(8) : !rows -> !rows
  %vs = attn.pool mean %v size(8) : !rows -> !rows
  %o = attn.attend %q segment(%k, %v) where(window(23, 0)) segment(%ks, %vs) where(past_blocks(8)) q_offset(0)
    : !rows segment(!rows, !rows) segment(!rows, !rows) -> !rows
  return %o : !rows
}
