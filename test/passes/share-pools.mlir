// RUN: heddle-opt %s --attn-share-pools --split-input-file | FileCheck %s

// The largest of blocks of 32, from the largest of blocks of 16; of blocks of 24, from those of 4. A finer pool moves up.
// CHECK-LABEL: func.func @levels
// CHECK: %[[P4:.*]] = attn.pool max %arg0 size(4) partial
// CHECK: %[[P24:.*]] = attn.pool max %[[P4]] size(6) partial
// CHECK: %[[P16:.*]] = attn.pool max %[[P4]] size(4) partial
// CHECK: %[[P32:.*]] = attn.pool max %[[P16]] size(2) partial
// CHECK: return %[[P24]], %[[P32]], %[[P16]], %[[P4]]
func.func @levels(%x: tensor<?x?x?x64xbf16>)
    -> (tensor<?x?x?x64xbf16>, tensor<?x?x?x64xbf16>, tensor<?x?x?x64xbf16>, tensor<?x?x?x64xbf16>) {
  %a = attn.pool max %x size(24) partial : tensor<?x?x?x64xbf16> -> tensor<?x?x?x64xbf16>
  %b = attn.pool max %x size(32) partial : tensor<?x?x?x64xbf16> -> tensor<?x?x?x64xbf16>
  %c = attn.pool max %x size(16) partial : tensor<?x?x?x64xbf16> -> tensor<?x?x?x64xbf16>
  %d = attn.pool max %x size(4) partial : tensor<?x?x?x64xbf16> -> tensor<?x?x?x64xbf16>
  return %a, %b, %c, %d : tensor<?x?x?x64xbf16>, tensor<?x?x?x64xbf16>, tensor<?x?x?x64xbf16>, tensor<?x?x?x64xbf16>
}

// -----

// Means are rounded; windows that overlap or are cut otherwise, and other tensors, are no blocks of blocks.
// CHECK-LABEL: func.func @others
// CHECK-COUNT-6: attn.pool {{.*}} %arg0
// CHECK: attn.pool max %arg1 size(8)
func.func @others(%x: tensor<?x?x?x64xf32>, %y: tensor<?x?x?x64xf32>)
    -> (tensor<?x?x?x64xf32>, tensor<?x?x?x64xf32>, tensor<?x?x?x64xf32>, tensor<?x?x?x64xf32>, tensor<?x?x?x64xf32>, tensor<?x?x?x64xf32>, tensor<?x?x?x64xf32>) {
  %a = attn.pool mean %x size(4) : tensor<?x?x?x64xf32> -> tensor<?x?x?x64xf32>
  %b = attn.pool mean %x size(8) : tensor<?x?x?x64xf32> -> tensor<?x?x?x64xf32>
  %c = attn.pool max %x size(4) : tensor<?x?x?x64xf32> -> tensor<?x?x?x64xf32>
  %d = attn.pool max %x size(8) stride(4) : tensor<?x?x?x64xf32> -> tensor<?x?x?x64xf32>
  %e = attn.pool max %x size(8) partial : tensor<?x?x?x64xf32> -> tensor<?x?x?x64xf32>
  %f = attn.pool max %x size(6) : tensor<?x?x?x64xf32> -> tensor<?x?x?x64xf32>
  %g = attn.pool max %y size(8) : tensor<?x?x?x64xf32> -> tensor<?x?x?x64xf32>
  return %a, %b, %c, %d, %e, %f, %g : tensor<?x?x?x64xf32>, tensor<?x?x?x64xf32>, tensor<?x?x?x64xf32>, tensor<?x?x?x64xf32>, tensor<?x?x?x64xf32>, tensor<?x?x?x64xf32>, tensor<?x?x?x64xf32>
}
