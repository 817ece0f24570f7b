// Landmarks, their kernel (values are the unit matrix) and the rows that they collect; the host inverts the kernel.
!rows = tensor<?x?x?x32xf32>
func.func @to_landmarks(%q: !rows, %k: !rows, %v: !rows, %means: tensor<?x8xf32>, %one: tensor<?x?x?x8xf32>) -> (tensor<?x?x?x8xf32>, !rows, tensor<?x?x8x32xf32>) {
  %ql = attn.project %q, %means : !rows, tensor<?x8xf32> -> tensor<?x?x8x32xf32>
  %kl = attn.project %k, %means : !rows, tensor<?x8xf32> -> tensor<?x?x8x32xf32>
  %a = attn.attend %ql segment(%kl, %one) : tensor<?x?x8x32xf32> segment(tensor<?x?x8x32xf32>, tensor<?x?x?x8xf32>) -> tensor<?x?x?x8xf32>
  %far = attn.attend %ql segment(%k, %v) : tensor<?x?x8x32xf32> segment(!rows, !rows) -> !rows
  return %a, %far, %kl : tensor<?x?x?x8xf32>, !rows, tensor<?x?x8x32xf32>
}
