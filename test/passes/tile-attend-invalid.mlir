// What is no function of one scheduled attend is refused, at the op that is too much or lacks something.
// RUN: heddle-opt %s --split-input-file --attn-tile-attend --verify-diagnostics

func.func @unscheduled(%q: tensor<?x8x?x64xf32>) -> tensor<?x8x?x64xf32> {
  // expected-error@+1 {{'attn.attend' op expected a schedule (--attn-annotate-schedule), but got none}}
  %o = attn.attend %q segment(%q, %q) where(causal)
    : tensor<?x8x?x64xf32> segment(tensor<?x8x?x64xf32>, tensor<?x8x?x64xf32>) -> tensor<?x8x?x64xf32>
  return %o : tensor<?x8x?x64xf32>
}

// -----

func.func @second(%q: tensor<?x8x?x64xf32>) -> tensor<?x8x?x64xf32> {
  %o = attn.attend %q segment(%q, %q)
    : tensor<?x8x?x64xf32> segment(tensor<?x8x?x64xf32>, tensor<?x8x?x64xf32>) -> tensor<?x8x?x64xf32>
  // expected-error@+1 {{'attn.attend' op expected one attend in a function, but got a second one}}
  %p = attn.attend %o segment(%q, %q)
    : tensor<?x8x?x64xf32> segment(tensor<?x8x?x64xf32>, tensor<?x8x?x64xf32>) -> tensor<?x8x?x64xf32>
  return %p : tensor<?x8x?x64xf32>
}

// -----

func.func @another_op(%q: tensor<?x8x?x64xf32>) -> tensor<?x8x?x64xf32> {
  // expected-error@+1 {{'attn.pool' op expected only attn.attend, constants and return in a kernel's function, but got this op}}
  %s = attn.pool mean %q size(4) : tensor<?x8x?x64xf32> -> tensor<?x8x?x64xf32>
  %o = attn.attend %q segment(%s, %s)
    : tensor<?x8x?x64xf32> segment(tensor<?x8x?x64xf32>, tensor<?x8x?x64xf32>) -> tensor<?x8x?x64xf32>
  return %o : tensor<?x8x?x64xf32>
}

// -----

// expected-error@+1 {{'func.func' op expected an attn.attend, but got none}}
func.func @none(%q: tensor<?x8x?x64xf32>) -> tensor<?x8x?x64xf32> {
  return %q : tensor<?x8x?x64xf32>
}

// -----

func.func @returns_an_argument(%q: tensor<?x8x?x64xf32>) -> (tensor<?x8x?x64xf32>, tensor<?x8x?x64xf32>) {
  %o = attn.attend %q segment(%q, %q)
    : tensor<?x8x?x64xf32> segment(tensor<?x8x?x64xf32>, tensor<?x8x?x64xf32>) -> tensor<?x8x?x64xf32>
  // expected-error@+1 {{'func.return' op expected to return the results of attn.attend, each once, but got another value at 1}}
  return %o, %q : tensor<?x8x?x64xf32>, tensor<?x8x?x64xf32>
}

// -----

func.func @returns_nothing(%q: tensor<?x8x?x64xf32>) {
  %o = attn.attend %q segment(%q, %q)
    : tensor<?x8x?x64xf32> segment(tensor<?x8x?x64xf32>, tensor<?x8x?x64xf32>) -> tensor<?x8x?x64xf32>
  // expected-error@+1 {{'func.return' op expected to return the result of attn.attend, but got nothing of it}}
  return
}

// -----

func.func @dynamic(%q: tensor<?x8x?x?xf32>) -> tensor<?x8x?x?xf32> {
  // expected-error@+1 {{'attn.attend' op expected the head dimension of q to be static, but got 'tensor<?x8x?x?xf32>'}}
  %o = attn.attend %q segment(%q, %q)
    : tensor<?x8x?x?xf32> segment(tensor<?x8x?x?xf32>, tensor<?x8x?x?xf32>) -> tensor<?x8x?x?xf32>
  return %o : tensor<?x8x?x?xf32>
}
