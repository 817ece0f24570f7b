// Packed documents: a query attends causally inside its own document. %docs holds the document's number of each token;
// tokens with a negative number (padding) attend to nothing and are seen by nobody.
func.func @document(%q: tensor<?x8x?x64xf32>, %k: tensor<?x8x?x64xf32>, %v: tensor<?x8x?x64xf32>,
                    %docs: tensor<?x?xi32>) -> tensor<?x8x?x64xf32> {
  %o = attn.attend %q segment(%k, %v) where(causal & same(%docs, %docs))
    : tensor<?x8x?x64xf32> segment(tensor<?x8x?x64xf32>, tensor<?x8x?x64xf32>) operands(tensor<?x?xi32>)
      -> tensor<?x8x?x64xf32>
  return %o : tensor<?x8x?x64xf32>
}
