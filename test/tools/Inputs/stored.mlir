func.func @stored(%a: tensor<?x?xi32>, %b: tensor<?x?xi32>, %x: tensor<?x?xf32>)
    -> (tensor<?x?xi32>, tensor<?x?xf16>) {
  %d = arith.divsi %a, %b : tensor<?x?xi32>
  %t = arith.truncf %x : tensor<?x?xf32> to tensor<?x?xf16>
  return %d, %t : tensor<?x?xi32>, tensor<?x?xf16>
}
