// A layer of an expert that mixes rows: x is [1, 1, rows, vectors], one weight for all of its vectors.
func.func @mix(%x: tensor<?x?x?x?xf32>, %w: tensor<?x?xf32>) -> tensor<?x?x?x?xf32> {
  %y = attn.project %x, %w : tensor<?x?x?x?xf32>, tensor<?x?xf32> -> tensor<?x?x?x?xf32>
  return %y : tensor<?x?x?x?xf32>
}
